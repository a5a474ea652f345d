"""A whole Posthouse for a test: started with its own data directory on free ports, stopped by pid."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = str(Path(sys.executable).parent / "posthouse")
SERVICES = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "lmtp", "metrics")
PATIENCE_SECONDS = 60.0


class RunningServer:
    """``posthouse serve`` on 127.0.0.1. ``ports`` by service; ``log`` is what it has logged so far.

    ``listen``: lines of TOML for listeners beside the usual ones, or in the place of one of them.
    """

    def __init__(self, directory: Path, configuration: str = "", *, workers: int = 2, listen: str = "") -> None:
        self.directory = directory
        self.data = directory / "data"
        self.configuration = directory / "posthouse.toml"
        self.log_file = directory / "server.log"
        self.ports: dict[str, int] = {}
        self.process: subprocess.Popen[bytes] | None = None
        usual = [service for service in SERVICES if f"{service} = " not in listen]
        listen = "".join(f'{service} = ["127.0.0.1:0"]\n' for service in usual) + listen
        head = f'hostname = "mail.example.test"\ndata_dir = "{self.data}"\nworkers = {workers}\n'
        tables = configuration if "[listen]" in configuration else f"{configuration}\n[listen]\n{listen}"
        self.configuration.write_text(head + tables)

    def cli(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI against this server's data."""
        command = [PROGRAM, *arguments, "--config", str(self.configuration)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def add_account(self, address: str, password: str = "secret") -> None:
        self.cli("account", "add", address, "--password-stdin", stdin=password + "\n")

    def start(self) -> "RunningServer":
        """Start it and wait until it serves."""
        offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", "--config", str(self.configuration)],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for event in self._events(offset):
                if event.get("event") == "serving":
                    self.ports = {
                        service: int(address.rpartition(":")[2])
                        for service, addresses in event.items()
                        for address in str(addresses).split(",")
                        if address.startswith("127.0.0.1:")
                    }
                    return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log_file.read_text()}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Drain and stop; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """kill -9 for the supervisor and every process of its, at once."""
        if self.process is None:
            return
        # They share the session that start() made; the supervisor is its leader.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def pids(self) -> list[int]:
        """The supervisor and its processes."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    @property
    def log(self) -> list[dict]:
        return self._events(0)

    def wait_for(self, event: str, **facts: object) -> dict:
        """The first log line of that event with those facts, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for line in self.log:
                if line.get("event") == event and all(line.get(key) == value for key, value in facts.items()):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no {event} {facts} in the log:\n{self.log_file.read_text()[-5000:]}")

    def connect(self, service: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[service]), timeout=30)

    def _events(self, offset: int) -> list[dict]:
        with self.log_file.open("rb") as file:
            file.seek(offset)
            text = file.read()
        events = []
        for line in text.split(b"\n")[:-1]:
            try:
                events.append(json.loads(line))
            except ValueError:
                events.append({"event": "not-json", "text": line.decode(errors="replace")})
        return [event if isinstance(event, dict) else {"event": "not-json", "text": str(event)} for event in events]
