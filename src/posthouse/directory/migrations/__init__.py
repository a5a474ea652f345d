"""The schema's revisions, and running them: forward and back, on SQLite, MariaDB, MySQL and PostgreSQL alike.

Alembic knows the revisions and their order and turns them into SQL; this runs it, over whatever connection there is.

Invariants:
  1. SQLite and PostgreSQL do all of it or nothing. MariaDB and MySQL commit each statement, so each may be repeated.
  2. Of two who migrate one database at the same time, one is told to wait.
  3. None of the five tables is altered or dropped; those that are missing are made where the caller says so.
"""

# ruff: noqa: S608 - what is put into statements is the name of our own table, and revisions.

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import text

from posthouse.base.errors import TryLater
from posthouse.directory.database import Dialect, Row, Transaction
from posthouse.directory.errors import NotChanged
from posthouse.directory.version import BASE, NEEDED, VERSION_TABLE, found_version, newer, tables

HEAD = NEEDED
_SCRIPTS = ScriptDirectory(str(Path(__file__).parent))
_REVISIONS: tuple[Script, ...] = tuple(reversed(list(_SCRIPTS.walk_revisions())))
REVISIONS = tuple(script.revision for script in _REVISIONS)
"""All of them, oldest first."""

_LOCKS: dict[Dialect, str] = {
    "mysql": "SELECT GET_LOCK(LEFT(CONCAT('posthouse ', MD5(DATABASE())), 64), 0)",
    "postgresql": "SELECT CASE WHEN pg_try_advisory_xact_lock(8101751231) THEN 1 ELSE 0 END",
}
_UNLOCKS: dict[Dialect, str] = {"mysql": "SELECT RELEASE_LOCK(LEFT(CONCAT('posthouse ', MD5(DATABASE())), 64))"}


class Session(Protocol):
    """One connection, in one transaction where the database has that for definitions."""

    @property
    def dialect(self) -> Dialect: ...

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]: ...

    async def run(self, sql: str) -> None: ...


class OverTransaction:
    """A session over a transaction of a database."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.dialect: Dialect = transaction.dialect

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        return await self._transaction.query(sql, parameters)

    async def run(self, sql: str) -> None:
        await self._transaction.execute(text(sql))


@dataclass(frozen=True, slots=True)
class Step:
    """From one revision to the next; ``revision`` is where the database is afterwards, ``BASE`` before the first."""

    revision: str
    statements: tuple[str, ...]


def plan(dialect: Dialect, current: str, target: str, make: Iterable[str] = ()) -> list[Step]:
    """What leads from ``current`` to ``target``. ``make``: those of the five tables that are to be made.

    Raises ``NotChanged`` for a target that there is not, ``TryLater`` for a newer Posthouse's schema.
    """
    positions = {BASE: 0, **{revision: number for number, revision in enumerate(REVISIONS, 1)}}
    if target not in positions:
        raise NotChanged(f"there is no schema revision {target!r}: {', '.join(REVISIONS)}, or base")
    if current not in positions:
        raise TryLater(newer(current))
    start, end = positions[current], positions[target]
    wanted = frozenset(make)
    if start <= end:
        return [Step(one.revision, _sql(dialect, one.module.upgrade, wanted)) for one in _REVISIONS[start:end]]
    return [
        Step(str(one.down_revision or BASE), _sql(dialect, one.module.downgrade, wanted))
        for one in reversed(_REVISIONS[end:start])
    ]


def _sql(dialect: Dialect, function: Any, make: frozenset[str]) -> tuple[str, ...]:
    output = _Statements()
    options = {"as_sql": True, "output_buffer": output, "make": make}
    context = MigrationContext.configure(dialect_name=dialect, opts=options)
    with Operations.context(context):
        function()
    return tuple(output.statements)


class _Statements(io.StringIO):
    """What alembic would print: each statement in a piece."""

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[str] = []

    def write(self, text: str, /) -> int:
        if statement := text.strip().removesuffix(";"):
            self.statements.append(statement)
        return len(text)


async def migrate(session: Session, target: str = HEAD, wanted: Iterable[str] = ()) -> list[str]:
    """Bring the database to ``target``; the tables that were made or dropped on the way.

    ``wanted``: those of the five tables that are to be made where they are missing. Raises ``TryLater``.
    """
    dialect = session.dialect
    if dialect in _LOCKS and not (await session.query(_LOCKS[dialect]))[0][0]:
        raise TryLater("somebody else is changing this database's schema at the moment: wait, then look again")
    try:
        if dialect == "mysql":
            await session.run("SET sql_notes = 0")  # that something is there already is no news
        before = await tables(session)
        current = await found_version(session)
        steps = plan(dialect, current or BASE, target, frozenset(wanted) - before)
        if steps:
            await _take(session, steps)
        after = await tables(session)
    finally:
        if dialect in _UNLOCKS:
            with contextlib.suppress(TryLater):  # a connection that is gone has no lock any more
                await session.query(_UNLOCKS[dialect])
                await session.run("SET sql_notes = 1")
    return sorted((before ^ after) - {VERSION_TABLE})


async def _take(session: Session, steps: Sequence[Step]) -> None:
    await session.run(f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    is_written = bool(await session.query(f"SELECT version_num FROM {VERSION_TABLE}"))
    for step in steps:
        for statement in step.statements:
            await session.run(statement)
        if step.revision == BASE:
            await session.run(f"DROP TABLE {VERSION_TABLE}")
        elif is_written:
            await session.run(f"UPDATE {VERSION_TABLE} SET version_num = '{step.revision}'")
        else:
            await session.run(f"INSERT INTO {VERSION_TABLE} (version_num) VALUES ('{step.revision}')")
            is_written = True


def revision_text(revision: str) -> str:
    """The first line of what a revision says of itself."""
    if revision == BASE:
        return "nothing of Posthouse's own"
    return cast(str, _SCRIPTS.get_revision(revision).doc)
