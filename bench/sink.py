"""Where relayed mail goes: Postfix's smtp-sink, which takes all and counts."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import servers

DRAIN_SECONDS = 120.0
POLL_SECONDS = 0.02


def missing() -> str:
    """Why nothing can be relayed here; empty if it can."""
    return "" if shutil.which("smtp-sink") else "smtp-sink is not installed (apt install postfix): nothing is relayed"


class Sink:
    """Listens on ``port``; counts from its start."""

    def __init__(self, port: int, log: str) -> None:
        self._log = log
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def taken(self) -> int:
        """Messages so far: the last of the running counters that it prints."""
        with open(self._log, "rb") as file:
            file.seek(max(0, os.path.getsize(self._log) - 200))
            words = file.read().replace(b"\r", b" ").split()
        counts = [word for word in words if word.startswith(b"mesg=")]
        return int(counts[-1][5:]) if counts and counts[-1][5:].isdigit() else 0

    def wait(self, count: int) -> None:
        """Until it has taken as many. Raises ``TimeoutError``."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.taken < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.taken} of {count} messages arrived in {DRAIN_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def start(self) -> None:
        account = ["-u", "postfix"] if os.geteuid() == 0 else []
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                ["smtp-sink", *account, "-c", "-m", "400", f"{servers.HOST}:{self._port}", "1024"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        servers.await_greeting(self._port, self._log, self._process)

    def stop(self) -> None:
        if self._process is not None:
            servers.end(self._process.pid, self._process)
            self._process = None


@contextmanager
def running(port: int, directory: str) -> Iterator[Sink]:
    """A sink for as long as the block lasts."""
    sink = Sink(port, os.path.join(directory, "sink.log"))
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()
