"""A server that may die at any moment and is started again on what is left.

Two accounts, an alias to both, and a relay host that refuses every connection.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.running import PATIENCE_SECONDS, PROGRAM, SERVICES, RunningServer

CONFIGURATION = """
[smtp]
mynetworks = ["127.0.0.0/8"]
relayhost = "[127.0.0.1]:{port}"
"""
ACCOUNTS = ("alice", "bob", "carol")


class Machine(RunningServer):
    """``command`` in front of the arguments is what is started; ``crash`` ends all of it at once."""

    _directory: bytes | None = None

    def __init__(
        self, directory: Path, configuration: str = CONFIGURATION, *, relay_port: int = 9, workers: int = 2
    ) -> None:
        super().__init__(directory, configuration.replace("{port}", str(relay_port)), workers=workers)
        self.command: Sequence[str] = (PROGRAM,)
        self._offset = 0

    def populate(self) -> "Machine":
        """Domain, accounts and alias; made once and copied from then on."""
        database = self.data / "posthouse.db"
        if Machine._directory is None:
            self.cli("domain", "add", "example.test")
            for name in ACCOUNTS:
                self.add_account(f"{name}@example.test")
            self.cli("alias", "add", "team@example.test", "alice@example.test", "bob@example.test")
            assert not database.with_name("posthouse.db-wal").exists()
            Machine._directory = database.read_bytes()
        else:
            self.data.mkdir(mode=0o700, exist_ok=True)
            database.write_bytes(Machine._directory)
        return self

    def begin(self) -> None:
        """Start it without waiting for anything."""
        self._offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "serve", "--config", str(self.configuration)],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self) -> "Machine":
        self.begin()
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for event in self._events(self._offset):
                if event.get("event") == "serving":
                    self.ports = {s: int(event[s].rpartition(":")[2]) for s in SERVICES if s in event}
                    return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log_file.read_text()[-5000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            super().kill()

    def crash(self) -> None:
        """kill -9 for the supervisor and all its processes; returns when the last of them is gone."""
        self.kill()
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        # Every process has the data directory's lock; one that dies in a system call has it a moment longer.
        lock = os.open(self.data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        finally:
            os.close(lock)

    def process_of(self, role: str) -> int:
        """The pid of the worker or queue runner that has this journal."""
        wanted = os.stat(self.data / "journal" / role / "lock")
        for pid in self.pids()[1:]:
            with contextlib.suppress(OSError):
                for descriptor in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        state = os.stat(f"/proc/{pid}/fd/{descriptor}")
                        if (state.st_dev, state.st_ino) == (wanted.st_dev, wanted.st_ino):
                            return pid
        raise AssertionError(f"nobody is {role}")

    def kill_process(self, role: str) -> int:
        pid = self.process_of(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_for_process(self, role: str, *, other_than: int) -> int:
        """The pid of the process that came after ``other_than``."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                if (pid := self.process_of(role)) != other_than:
                    return pid
            time.sleep(0.02)
        raise AssertionError(f"{role} was not started again:\n{self.log_file.read_text()[-5000:]}")

    def process_at(self, local_port: int) -> int:
        """The pid of the worker at the other end of a connection from this port."""
        address = f"{local_port:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {f"socket:[{line[9]}]" for line in lines if line[2].endswith(f":{address}") and line[3] == "01"}
        for pid in self.pids()[1:]:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                        return pid
        raise AssertionError(f"nobody serves port {local_port}")

    def bugs(self) -> list[dict]:
        """Tracebacks in the log, and what is no log."""
        return [event for event in self.log if event.get("event") == "not-json" or "exception" in event]


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and is nobody else's meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
