"""Real milters and scanners, started for a test, waited for until they answer, stopped by pid."""

import socket
import subprocess
import time
from pathlib import Path

PATIENCE_SECONDS = 60.0


class Program:
    """A program that listens at ``address``, a path or a port, as soon as this is made."""

    def __init__(self, command: list[str], address: Path | int, log: Path) -> None:
        self.address = address
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        family, address = (
            (socket.AF_INET, ("127.0.0.1", self.address))
            if isinstance(self.address, int)
            else (socket.AF_UNIX, str(self.address))
        )
        with socket.socket(family) as probe:
            return probe.connect_ex(address) == 0

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
