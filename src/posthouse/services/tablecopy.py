"""A copy of the five tables in an SQLite file of our own, for questions about all rows at once.

It is filled page by page, so that memory stays the same however many rows there are, and is gone when it is closed.
Whatever the tables and columns are called, here they have the names that Posthouse gives them.
"""

# ruff: noqa: S608 - what is put into statements are names from the configuration, and ours.

import asyncio
import os
import sqlite3
import tempfile
import unicodedata
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal

from posthouse.directory.database import PLACEHOLDERS, Queries
from posthouse.directory.presets import Source
from posthouse.directory.queries import Statements

PAGE = 2000
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -32000;
CREATE TABLE virtual (id TEXT, email TEXT, destination TEXT, target TEXT, folded TEXT);
CREATE TABLE relocated (id TEXT, email TEXT, destination TEXT, target TEXT, folded TEXT);
CREATE TABLE transport (id TEXT, domain TEXT, destination TEXT, target TEXT, folded TEXT);
CREATE TABLE alias (id TEXT, alias TEXT, destination TEXT, target TEXT, folded TEXT);
CREATE TABLE users (id TEXT, email TEXT, clear TEXT, name TEXT, uid TEXT, gid TEXT, homedir TEXT, maildir TEXT,
    quota TEXT, postfix TEXT, domain TEXT, path TEXT, has_password INTEGER, folded TEXT);
CREATE TABLE posthouse_domains (domain TEXT PRIMARY KEY, enabled INTEGER);
CREATE TABLE posthouse_credentials (email TEXT PRIMARY KEY, scram_sha256 TEXT, argon2id TEXT);
CREATE TABLE posthouse_app_passwords (email TEXT, id INTEGER, name TEXT, scopes TEXT, hash TEXT);
"""
_INDEXES = """
CREATE INDEX virtual_key ON virtual (email COLLATE NOCASE);
CREATE INDEX relocated_key ON relocated (email COLLATE NOCASE);
CREATE INDEX transport_key ON transport (domain COLLATE NOCASE);
CREATE INDEX alias_key ON alias (alias COLLATE NOCASE);
CREATE INDEX users_key ON users (email COLLATE NOCASE);
"""


class TableCopy:
    """The copy; also what the resolver asks, without ever waiting."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="posthouse-")
        self._connection = sqlite3.connect(os.path.join(self._folder.name, "copy"), isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        self._connection.close()
        self._folder.cleanup()

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[tuple[Any, ...]]:
        return self._connection.execute(sql, tuple(parameters)).fetchall()  # type: ignore[arg-type]

    def each(self, sql: str, parameters: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows one after the other."""
        return self._connection.execute(sql, tuple(parameters))

    def add(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self._connection.execute("BEGIN")
            self._connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)
            self._connection.execute("COMMIT")

    def index(self) -> None:
        """Once everything is there."""
        self._connection.executescript(_INDEXES)


async def pages(
    queries: Queries, statements: Statements, source: Source, columns: Sequence[str], id_column: str
) -> AsyncIterator[list[tuple[Any, ...]]]:
    """A table's rows, ``PAGE`` at a time: id (None: there is none), key, then ``columns``. Raises ``TryLater``."""
    name = statements.name
    shown = ", ".join(statements.as_text(column) for column in (source.key, *columns))
    where = f"({statements.verbatim(source.where)})" if source.where else "1 = 1"
    table = name(source.table)
    last: object = None
    offset = 0
    while True:
        if id_column:
            further = f" AND {name(id_column)} > {PLACEHOLDERS[queries.dialect](1)}" if last is not None else ""
            order = f"{name(id_column)} LIMIT {PAGE}"
            sql = f"SELECT {name(id_column)}, {shown} FROM {table} WHERE {where}{further} ORDER BY {order}"
            page = await queries.query(sql, () if last is None else (last,))
        else:
            order = f"{name(source.key)} LIMIT {PAGE} OFFSET {offset}"
            page = await queries.query(f"SELECT NULL, {shown} FROM {table} WHERE {where} ORDER BY {order}")
        await asyncio.sleep(0)  # a file never makes us wait, and Ctrl-C has to get in
        if page:
            yield [tuple(row) for row in page]
            last = page[-1][0]
            offset += len(page)
        if len(page) < PAGE:
            return


def folded(key: str) -> str:
    """``key`` as a collation that ignores case and accents sees it."""
    if key.isascii():
        return key.lower()
    plain = unicodedata.normalize("NFKD", key)
    return "".join(character for character in plain if not unicodedata.combining(character)).casefold()
