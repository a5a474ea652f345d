"""Migrating an SQLite file, which nobody has to ask for: the file as it was is kept beside it.

Invariants:
  1. The copy is complete before anything is changed.
  2. ``PRAGMA user_version`` is the revision's number, which is all that the first release knows of versions.
"""

import os
import sqlite3
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from posthouse.base.errors import TryLater
from posthouse.directory.database import Dialect, Row
from posthouse.directory.migrations import HEAD, migrate
from posthouse.directory.schema import FIVE
from posthouse.directory.version import found_version
from posthouse.runtime.log import log

T = TypeVar("T")


class FileSession:
    """A session over a connection of our own."""

    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        return self._connection.execute(sql, tuple(parameters)).fetchall()  # pyright: ignore[reportArgumentType]

    async def run(self, sql: str) -> None:
        self._connection.execute(sql)


def upgrade_file(connection: sqlite3.Connection, path: str, wanted: Iterable[str], target: str = HEAD) -> list[str]:
    """Bring a file to ``target``, forward or back; the tables that were made or dropped.

    Raises ``TryLater``, ``sqlite3.Error``, ``OSError``.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")  # whoever else wants to, waits here, and finds it done
    try:
        has_tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if has_tables and run_now(found_version(FileSession(connection))) != target:
            _keep_copy(path, target)
        changed = run_now(migrate(FileSession(connection), target, wanted))
        _check_columns(connection, wanted)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return changed


def _keep_copy(path: str, revision: str) -> None:
    """Copy the file as it is, readable for its owner alone."""
    owner = os.stat(path)
    copy = f"{path}.before-{revision}"
    number = 1
    while os.path.lexists(copy):
        number += 1
        copy = f"{path}.before-{revision}.{number}"
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    os.close(descriptor)
    reader = sqlite3.connect(path, isolation_level=None)
    try:
        reader.execute("VACUUM INTO ?", (copy,))
    except BaseException:
        os.unlink(copy)
        raise
    finally:
        reader.close()
    log.info("database-copied", copy=copy, reason="its schema is about to be changed")


def _check_columns(connection: sqlite3.Connection, wanted: Iterable[str]) -> None:
    names = frozenset(wanted)
    for table in FIVE:
        if table.name in names:
            present = {row[1].lower() for row in connection.execute(f'PRAGMA table_info("{table.name}")')}
            if missing := [column.name for column in table.columns if column.name not in present]:
                raise TryLater(f"table {table.name} has no column {', '.join(missing)}")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits for anything."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("it waited")
