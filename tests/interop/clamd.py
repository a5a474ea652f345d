"""A clamd of our own: its configuration and signatures in a directory, nothing downloaded, stopped by pid."""

import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path

EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-" + "TEST-FILE!$H+H*"
"""What every scanner takes for a virus, and what is none; in pieces, or this file would be one."""
SIGNATURE = "Eicar-Test-Signature"
PATIENCE_SECONDS = 60.0


class Clamd:
    """``socket``: where it listens, as filters have it in their ``servers``."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.path = directory / "clamd.sock"
        self.socket = f"unix:{self.path}"
        signatures = directory / "signatures"
        signatures.mkdir()
        # ClamAV's extended signature: name, any kind of file, anywhere in it, the octets.
        (signatures / "local.ndb").write_text(f"{SIGNATURE}:0:*:{EICAR.encode().hex()}\n")
        lines = {
            "DatabaseDirectory": signatures,
            "LocalSocket": self.path,
            "LocalSocketMode": "666",
            "TemporaryDirectory": directory,
            "LogFile": directory / "clamd.log",
            "Foreground": "yes",
            "StreamMaxLength": "10M",
            "MaxThreads": "2",
            "SelfCheck": "0",
            "User": pwd.getpwuid(os.geteuid()).pw_name,
        }
        (directory / "clamd.conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

    def start(self) -> "Clamd":
        """Start it, and wait until it answers."""
        command = [self._program, "--config-file", str(self._directory / "clamd.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            log = self._directory / "clamd.log"
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"clamd did not start:\n{log.read_text() if log.exists() else ''}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(self.path))
                connection.sendall(b"zPING\0")
                return connection.recv(100) == b"PONG\0"
        except OSError:
            return False
