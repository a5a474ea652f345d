"""The tables that are a key and a destination: virtual, alias, transport, relocated."""

from collections.abc import Iterable, Sequence

from sqlalchemy import func, insert, select, update

from posthouse.directory import schema
from posthouse.directory.destinations import parts
from posthouse.directory.records import PAGE_ROWS, START, Cursor, KeyedTable, Row, text
from posthouse.directory.tables.base import Rows, escaped

_TABLES = {table.name: table for table in schema.FIVE}


class KeyedRows(Rows):
    """Rows of the four, whatever case their keys have; new keys are look-up keys."""

    async def rows(
        self, table: KeyedTable, after: Cursor = START, *, limit: int = PAGE_ROWS, domain: str = ""
    ) -> list[tuple[Cursor, Row]]:
        """The next rows by key, then by age, with where to go on after each; of one ``domain`` or of all.

        None: there are no more. A row without a key is not listed.
        """
        self.check_ours(table)
        columns = _TABLES[table].c
        key = columns[schema.KEY_COLUMNS[table]]
        found = await self.page(_TABLES[table], (key, columns.destination), after, limit, domain)
        return [(at, Row(at.id, text(name), text(destination))) for at, (name, destination) in found]

    async def keyed(self, table: KeyedTable, keys: Iterable[str]) -> list[Row]:
        """All rows of these keys, oldest first."""
        self.check_ours(table)
        return [Row(row[0], text(row[1]), text(row[2])) for row in await self.rows_of(_TABLES[table], keys)]

    async def destinations(self, table: KeyedTable, key: str) -> list[str]:
        """The destinations of one key's rows."""
        return [row.destination for row in await self.keyed(table, (key,))]

    async def add(self, table: KeyedTable, key: str, destination: str) -> None:
        await self.add_rows(table, [(key, destination)])

    async def add_rows(self, table: KeyedTable, rows: Sequence[tuple[str, str]]) -> None:
        """New rows: keys and destinations."""
        self.check_ours(table)
        column = schema.KEY_COLUMNS[table]
        if rows:
            values = [{column: key, "destination": destination} for key, destination in rows]
            await self.execute(insert(_TABLES[table]), values)

    async def remove(self, table: KeyedTable, key: str) -> int:
        """Remove a key's rows; how many there were."""
        ids = [row.id for row in await self.keyed(table, (key,))]
        await self.remove_rows(table, ids)
        return len(ids)

    async def remove_rows(self, table: KeyedTable, ids: Sequence[int]) -> None:
        self.check_ours(table)
        await self.delete_ids(_TABLES[table], ids)

    async def replace(self, table: KeyedTable, key: str, destinations: Sequence[str]) -> None:
        """Have exactly these rows for a key."""
        await self.remove(table, key)
        await self.add_rows(table, [(key, destination) for destination in destinations])

    async def leading_to(self, table: KeyedTable, destination: str, *, after: int = 0) -> list[Row]:
        """Rows whose destinations have this one among them, by id, from above ``after``; a page of them at most."""
        self.check_ours(table)
        columns = _TABLES[table].c
        pattern = f"%{escaped(destination)}%"
        matches = func.lower(columns.destination).like(pattern, escape="!")
        statement = select(columns.id, columns[schema.KEY_COLUMNS[table]], columns.destination).where(matches)
        while True:
            found = await self.execute(statement.where(columns.id > after).order_by(columns.id).limit(PAGE_ROWS))
            rows = [Row(int(row[0]), text(row[1]), text(row[2])) for row in found]
            exact = [row for row in rows if destination in (part.lower() for part in parts([row.destination]))]
            if exact or not rows:
                return exact
            after = rows[-1].id

    async def set_destination(self, table: KeyedTable, row_id: int, destination: str) -> None:
        self.check_ours(table)
        changed = _TABLES[table]
        await self.execute(update(changed).where(changed.c.id == row_id).values(destination=destination))
