"""Text files of an operator's that are read anew when they change.

Invariants:
  1. A file that changes is read anew within a second; while it can't be, its last good content counts.
  2. A line that is wrong is told with the file's name and its number, and nothing of that file counts.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import Reply, TryLater
from posthouse.runtime.log import log

T = TypeVar("T")

MAX_BYTES = 256 * 1024 * 1024
LOOK_SECONDS = 1.0
BROKEN = Reply(451, "4.3.5", "Server configuration problem")


class TableError(Exception):
    """A file that can't be used; the text says which line, and why."""


def lines(path: str) -> Iterator[tuple[str, str]]:
    """The lines that are neither empty nor remarks, each after its place. Raises ``TableError``."""
    try:
        if os.stat(path).st_size > MAX_BYTES:
            raise TableError(f"{path}: larger than {MAX_BYTES >> 20} MB")
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if (text := line.strip()) and not text.startswith("#"):
                    yield f"{path}:{number}", text
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 at byte {error.start}") from None


class TextFiles(Generic[T]):
    """The files of one kind, of one process, each read by ``read`` when it is first asked for."""

    def __init__(self, read: Callable[[str], T], clock: Clock | None = None) -> None:
        self._read = read
        self._clock = clock or SystemClock()
        self._files: dict[str, tuple[float, tuple[float, int], T]] = {}
        self._reading = asyncio.Lock()

    async def table(self, path: str) -> T:
        """The file as it is now. Raises ``TryLater`` for one that was never good."""
        known = self._files.get(path)
        if known is not None and known[0] > self._clock.monotonic():
            return known[2]
        async with self._reading:
            return await self._current(path)

    async def _current(self, path: str) -> T:
        known = self._files.get(path)
        now = self._clock.monotonic()
        if known is not None and known[0] > now:
            return known[2]
        stamp = _stamp(path)
        if known is not None and stamp == known[1]:
            self._files[path] = (now + LOOK_SECONDS, stamp, known[2])
            return known[2]
        try:
            table = await asyncio.to_thread(self._read, path)
        except TableError as error:
            if known is None:
                raise TryLater(str(error), BROKEN) from None
            log.warning("file-broken", reason=str(error), advice="what it had before still counts")
            table = known[2]
        self._files[path] = (self._clock.monotonic() + LOOK_SECONDS, stamp, table)
        return table


def _stamp(path: str) -> tuple[float, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0.0, -1
    return found.st_mtime, found.st_size
