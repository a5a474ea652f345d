"""Where the store's blocking work runs, and how its trouble is told."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from posthouse.base.errors import TryLater
from posthouse.runtime.watch import Watch
from posthouse.store.accountfiles import AccountFiles

T = TypeVar("T")


class Threads:
    """The store's thread pool, shared by all its accounts."""

    def __init__(self, count: int, watch: Watch | None) -> None:
        self.watch = watch
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="store")

    async def run(self, files: AccountFiles, work: Callable[..., T], *arguments: object) -> T:
        """Does it in a thread. Raises FileNotFoundError, store errors, TryLater for other trouble of ours."""
        return await self.call(lambda: files.attempt(lambda: work(*arguments)))

    async def call(self, work: Callable[..., T], *arguments: object) -> T:
        """The same for work that needs no index."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, work, *arguments)
        except FileNotFoundError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise TryLater(f"mail store: {error}") from error

    def close(self) -> None:
        self._executor.shutdown()
