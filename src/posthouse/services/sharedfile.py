"""A small SQLite file that all processes of a host share, used by a thread of each.

For what may be lost: it is not synced with every change, and where it can't be used life goes on without it.

Invariants:
  1. The event loop never waits for it.
  2. A file that is locked, broken or not there costs nobody anything: ``run`` gives what was asked for in that case,
     says so in the log, and leaves the file alone for a minute.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from posthouse.base.clock import Clock, SystemClock
from posthouse.runtime.log import log

RETRY_SECONDS = 60.0
LOCK_SECONDS = 5.0

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class SharedFile:
    """``schema`` makes what is missing; ``consequence`` says in the log what is so while the file can't be used."""

    def __init__(self, path: str, schema: str, *, consequence: str, clock: Clock | None = None) -> None:
        self._path = path
        self._schema = schema
        self._consequence = consequence
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=os.path.basename(path))
        self._file: sqlite3.Connection | None = None
        self._retry_at = 0.0

    async def close(self) -> None:
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def run(self, work: Work[T], otherwise: T) -> T:
        """What ``work`` returns, all that it does in one transaction; ``otherwise`` where the file can't be used."""
        if self._retry_at > self._clock.monotonic():
            return otherwise
        try:
            return await self._in_thread(lambda: self._transaction(work))
        except (sqlite3.Error, OSError) as error:
            self._retry_at = self._clock.monotonic() + RETRY_SECONDS
            log.warning(
                "file-unavailable",
                path=self._path,
                reason=str(error),
                consequence=self._consequence,
                advice="where the file is broken, remove it and a new one is made",
            )
            await self._in_thread(self._close)
            return otherwise

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # In the thread.

    def _transaction(self, work: Work[T]) -> T:
        if self._file is None:
            self._file = open_file(self._path, self._schema)
        return transaction(self._file, work)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def open_file(path: str, schema: str) -> sqlite3.Connection:
    """The file, made where there is none. Raises ``sqlite3.Error``, ``OSError``."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    file = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode = WAL")
        # A power cut may take the last changes; it must not break the file.
        file.execute("PRAGMA synchronous = NORMAL")
        file.executescript(schema)
    except BaseException:
        file.close()
        raise
    return file


def transaction(file: sqlite3.Connection, work: Work[T]) -> T:
    """All that ``work`` does, or nothing."""
    file.execute("BEGIN IMMEDIATE")
    try:
        result = work(file)
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
    return result
