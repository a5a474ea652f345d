"""Which schema a database has, and whether it is the one that this program needs.

Workers ask this at their start, by plain SQL: neither alembic nor SQLAlchemy is imported for the answer. An SQLite
file, which is one host's own, is made and brought up to date without being asked; of a database on the network this
only says what to run, since other hosts may use it.
"""

# ruff: noqa: S608 - what is put into statements is the name of our own table.

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Protocol

from posthouse.base.errors import TryLater
from posthouse.config.settings import Database as DatabaseSettings
from posthouse.config.settings import Lookup, UsersLookup
from posthouse.directory.database import Database, Dialect, Row

NEEDED = "0003"
BASE = "base"
"""What the schema is called before the first revision."""
VERSION_TABLE = "posthouse_alembic"
FIVE = ("alias", "relocated", "transport", "users", "virtual")
_TABLES: dict[Dialect, str] = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'",
    "mysql": "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
    # information_schema shows only what one has rights to.
    "postgresql": "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
    "AND relkind IN ('r', 'p', 'v', 'm', 'f')",
}


class _Queries(Protocol):
    @property
    def dialect(self) -> Dialect: ...

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]: ...


class Unfit(TryLater):
    """A schema that is not the one that is needed; ``reason`` says what to do."""


async def check(database: Database) -> None:
    """Raises ``Unfit`` unless the database's schema is the one that is needed, and ``TryLater``."""
    version = await found_version(database)
    if version == NEEDED:
        return
    name = database.name
    if version == "":
        raise Unfit(f"{name}: its tables were not finished: 'posthouse db init' does that, or 'posthouse db "
                       "adopt' where that was begun")  # fmt: skip
    if version is not None:
        if version > NEEDED:
            raise Unfit(f"{name}: {newer(version)}")
        raise Unfit(f"{name} has schema {version}, this Posthouse needs {NEEDED}: 'posthouse db upgrade'")
    if await tables(database):
        raise Unfit(f"{name} has tables, but not Posthouse's own: 'posthouse db adopt --dry-run' looks at them, "
                       "'posthouse db adopt' takes them over")  # fmt: skip
    raise Unfit(f"{name} is empty: 'posthouse db init' makes the tables")


def newer(version: str) -> str:
    """What to say of a schema that is not known here."""
    return (
        f"the database is of a newer Posthouse (schema {version}, this one knows {NEEDED}): use that one, or have it "
        f"go back with 'posthouse db downgrade {NEEDED}'"
    )


async def found_version(queries: _Queries) -> str | None:
    """The schema's revision; empty where its making was interrupted, None where nothing of ours is there.

    Raises ``TryLater``.
    """
    if VERSION_TABLE in await tables(queries):
        rows = await queries.query(f"SELECT version_num FROM {VERSION_TABLE}")
        return str(rows[0][0]) if rows else ""
    if queries.dialect == "sqlite":
        number = int((await queries.query("PRAGMA user_version"))[0][0])
        return f"{number:04}" if number else None
    return None


async def tables(queries: _Queries) -> frozenset[str]:
    """The names of the database's tables and views. Raises ``TryLater``."""
    return frozenset(str(row[0]) for row in await queries.query(_TABLES[queries.dialect]))


def classic(settings: DatabaseSettings) -> frozenset[str]:
    """Those of the five tables that are ours to make where they are missing: the configuration names no others."""
    if settings.schema != "posthouse":
        return frozenset()
    return frozenset(name for name in FIVE if getattr(settings, name) in (Lookup(), UsersLookup()))


def is_current(path: str) -> bool:
    """Whether an SQLite file needs nothing done, as far as its first page says."""
    try:
        with open(path, "rb") as file:
            return int.from_bytes(file.read(64)[60:64], "big") == int(NEEDED)
    except OSError:
        return False


def prepare_file(path: str, wanted: Iterable[str] = FIVE) -> None:
    """Make or upgrade the schema in an SQLite file; one that has rows is copied beside it first.

    ``wanted``: those of the five tables to make where they are missing. Blocks. Raises ``TryLater``, ``OSError``.
    """
    try:
        connection = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        try:
            number = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if number == int(NEEDED):
                return
            if number > int(NEEDED):
                raise TryLater(newer(f"{number:04}"))
            # Alembic and SQLAlchemy stay out of processes that have nothing to upgrade.
            from posthouse.directory.migrations.file import upgrade_file

            upgrade_file(connection, path, wanted)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TryLater(f"database {path}: {error}") from error
    except TryLater as error:
        if error.reason.startswith("database "):
            raise
        raise TryLater(f"database {os.path.abspath(path)}: {error.reason}") from error
