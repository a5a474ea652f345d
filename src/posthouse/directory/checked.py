"""A database whose schema is looked at before its first answer is believed, whenever that comes.

Who serves may start while no server answers; what a server says that comes back later must not be taken from a
schema that this program doesn't know.

Invariants:
  1. Nothing is asked and nothing is changed before the schema has been found to be the one that is needed.
  2. A schema that doesn't fit is ``TryLater`` and looked at again every ``LOOK_SECONDS``. Who serves tells the log
     once; a command, which can't do without the database, tells whoever typed it instead.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from posthouse.base.errors import TryLater
from posthouse.directory import version
from posthouse.directory.database import Database, Dialect, Row, Transaction
from posthouse.runtime.log import log

LOOK_SECONDS = 1.0
T = TypeVar("T")


class CheckedDatabase:
    """A ``Database`` around another one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fits = False
        self._serves = True
        self._trouble: TryLater | None = None
        self._looked = 0.0
        self._looking = asyncio.Lock()

    @property
    def dialect(self) -> Dialect:
        return self._database.dialect

    @property
    def name(self) -> str:
        return self._database.name

    async def open(self, *, may_be_away: bool = False) -> None:
        """Raises ``TryLater``: no server, unless it may be away, or a schema that doesn't fit."""
        self._serves = may_be_away
        await self._database.open(may_be_away=may_be_away)
        try:
            await self.check()
        except TryLater as error:
            if not may_be_away or isinstance(error, version.Unfit):
                await self._database.close()
                raise

    async def close(self) -> None:
        await self._database.close()

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        if not self._fits:
            await self.check()
        return await self._database.query(sql, parameters)

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        if not self._fits:
            await self.check()
        return await self._database.run(sql, parameters)

    async def version(self) -> int:
        if not self._fits:
            await self.check()
        return await self._database.version()

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        if not self._fits:
            await self.check()
        return await self._database.transaction(work)

    async def check(self) -> None:
        """Raises ``TryLater``: no answer yet, or a schema that doesn't fit; the same to all who wait for it."""
        async with self._looking:
            if self._fits:
                return
            now = asyncio.get_running_loop().time()
            if self._trouble is not None and now - self._looked < LOOK_SECONDS:
                raise TryLater(self._trouble.reason)
            try:
                await version.check(self._database)
            except version.Unfit as error:
                if self._serves and (self._trouble is None or self._trouble.reason != error.reason):
                    log.error("database-schema-unfit", database=self.name, reason=error.reason)
                self._trouble, self._looked = error, now
                raise
            if self._trouble is not None:
                log.warning("database-schema-fits", database=self.name)
            self._trouble, self._fits = None, True
