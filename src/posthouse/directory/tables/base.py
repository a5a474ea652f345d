"""What all tables have in common: statements within the transaction, keys whatever their case, pages.

Invariants:
  1. Databases find keys by their own rules, some without regard to accents or final spaces; a row counts only if its
     key is the same in lower case. What is changed or removed is addressed by its id.
  2. Nothing asks for more than ``PAGE_ROWS`` rows at once, but for those of one key.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, Executable, Table, delete, func, or_, select

from posthouse.base.errors import TryLater
from posthouse.directory import schema
from posthouse.directory.database import Row as DatabaseRow
from posthouse.directory.database import Transaction
from posthouse.directory.errors import NotChanged
from posthouse.directory.failures import Inexpressible, TooLong
from posthouse.directory.model import Actor
from posthouse.directory.records import START, Cursor, text
from posthouse.directory.resolution import Resolver

_FEW = 1_000
"""Keys and ids in one statement; databases have limits of their own."""


class Rows:
    """The tables over one transaction. ``foreign`` names those of the five that are another program's."""

    def __init__(
        self, transaction: Transaction, actor: Actor, resolver: Resolver, foreign: frozenset[str] = frozenset()
    ) -> None:
        self.transaction = transaction
        self.actor = actor
        self.resolver = resolver
        self.foreign = foreign

    def are_ours(self, table: str) -> bool:
        """Whether the rows of one of the five are where our own tables are."""
        return table not in self.foreign

    def check_ours(self, table: str) -> None:
        """Raises ``NotChanged`` where that is another program's."""
        if table in self.foreign:
            what = "accounts are" if table == "users" else f"what is in {table} elsewhere is"
            raise NotChanged(
                f"{what} kept in another program's tables (see [database]): look there, and change it there"
            )

    async def rows_of(self, table: Table, keys: Iterable[str]) -> Sequence[tuple[Any, ...]]:
        """All columns of the rows that one of the classic tables has for ``keys``, oldest first."""
        column = table.c[schema.KEY_COLUMNS[table.name]]
        wanted = set(keys)
        found: list[tuple[Any, ...]] = []
        for few in chunks(sorted(wanted)):
            found += [
                tuple(row[1:]) for row in await self._find(table, column, few) if text(row[0]).lower() in wanted
            ]
        return found

    async def _find(self, table: Table, column: ColumnElement[Any], keys: Sequence[str]) -> Sequence[DatabaseRow]:
        statement = select(column, *table.c).where(self.folded(column).in_(keys)).order_by(table.c.id)
        try:
            return await self.transaction.execute(statement)
        except Inexpressible:
            # No row has what the table's character set doesn't; the other keys may have some.
            if len(keys) == 1:
                return []
            return [row for key in keys for row in await self._find(table, column, [key])]

    async def page(
        self, table: Table, columns: Sequence[ColumnElement[Any]], after: Cursor, limit: int, domain: str = ""
    ) -> list[tuple[Cursor, tuple[Any, ...]]]:
        """The next rows of a table by key, with where to go on after each; of one ``domain`` or of all.

        None: there are no more. Rows without a key are left out.
        """
        column = table.c[schema.KEY_COLUMNS[table.name]]
        key = self.folded(column)
        statement = select(key, table.c.id, column, *columns).where(key.is_not(None)).order_by(key, table.c.id)
        if domain:
            statement = statement.where(self.in_domain(column, domain))
        while True:
            begin = [key >= after.key, or_(key > after.key, table.c.id > after.id)] if after != START else []
            rows = await self.transaction.execute(statement.where(*begin).limit(limit))
            found = [(Cursor(text(row[0]), int(row[1])), tuple(row[2:])) for row in rows]
            if found and found[-1][0] == after:
                raise TryLater(f"{table.name} row {after.id}: its key can't be read: set it right by hand")
            kept = [(at, row[1:]) for at, row in found if not domain or domain_of(text(row[0])) == domain]
            if kept or not found:
                return kept
            after = found[-1][0]

    def folded(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """A key column as it is indexed: compared without regard to case."""
        if self.transaction.dialect == "sqlite":
            return column.collate("NOCASE")
        return func.lower(column) if self.transaction.dialect == "postgresql" else column

    def in_domain(self, column: ColumnElement[Any], domain: str) -> ColumnElement[bool]:
        """Whether a key is of a domain: finds all of them, and may find others."""
        return self.folded(column).like(f"%@{escaped(domain)}", escape="!")

    async def delete_ids(self, table: Table, ids: Sequence[int]) -> None:
        for few in chunks(ids):
            await self.transaction.execute(delete(table).where(table.c.id.in_(few)))

    async def execute(
        self, statement: Executable, rows: Sequence[dict[str, Any]] | None = None
    ) -> Sequence[DatabaseRow]:
        try:
            return await self.transaction.execute(statement, rows)
        except TooLong as error:
            error.table = getattr(getattr(statement, "table", None), "name", "")
            error.values = rows or [statement.compile().params]  # type: ignore[attr-defined]
            raise

    async def too_long(self, name: str, values: Sequence[Mapping[str, object]]) -> str:
        """Which of ``values`` a table has no room for, in words; empty where each would fit."""
        columns = sqlalchemy.table(
            "columns",
            *map(
                sqlalchemy.column,
                ("table_name", "table_schema", "column_name", "data_type", "character_maximum_length"),
            ),
            schema="information_schema",
        ).c
        here = func.database() if self.transaction.dialect == "mysql" else func.current_schema()
        statement = select(columns.column_name, columns.data_type, columns.character_maximum_length)
        statement = statement.where(columns.table_name == name, columns.table_schema == here)
        for found, kind, most in await self.transaction.execute(statement):
            for one in values:
                value = one.get(found, one.get(f"new_{found}"))
                # MariaDB's tinytext has 255 octets, varchar(255) as many characters.
                is_octets = text(kind).endswith("text")
                if most is None or not isinstance(value, str):
                    continue
                size = len(value.encode() if is_octets else value)
                if size > int(most):
                    unit = "octets" if is_octets else "characters"
                    has = f"this has {size}: {value[:60]}…"
                    return f"the column {found} of {name} takes {most} {unit} at most, and {has}"
        return ""


def chunks(values: Sequence[Any], size: int = _FEW) -> Iterable[Sequence[Any]]:
    """``values`` a few at a time."""
    return (values[start : start + size] for start in range(0, len(values), size))


def escaped(pattern: str) -> str:
    """Text that stands for itself in LIKE with ``ESCAPE '!'``: a backslash is not the same to all databases."""
    return pattern.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def domain_of(key: str) -> str:
    return key.lower().rpartition("@")[2]


def now() -> str:
    """The time as tables have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
