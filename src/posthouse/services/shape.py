"""The tables themselves: are they there, with the columns that are read, of usable kinds, with indexes.

Only the database's own description of them is read, no row.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from posthouse.directory.database import PLACEHOLDERS, Dialect, Queries
from posthouse.directory.presets import Source, Tables
from posthouse.directory.queries import is_name
from posthouse.services.findings import Tally

_COLUMNS: dict[Dialect, str] = {
    "sqlite": "SELECT name, type, '' FROM pragma_table_info({mark})",
    "mysql": "SELECT column_name, data_type, COALESCE(collation_name, '') FROM information_schema.columns "
    "WHERE table_schema = {schema} AND table_name = {mark}",
    # information_schema shows only what one has rights to.
    "postgresql": "SELECT attname::text, format_type(atttypid, atttypmod), '' FROM pg_attribute WHERE attnum > 0 "
    "AND NOT attisdropped AND attrelid = (SELECT oid FROM pg_class WHERE relnamespace = {schema}::text::regnamespace "
    "AND relname = {mark}::text AND relkind IN ('r', 'p', 'v', 'm', 'f'))",
}
_INDEXED: dict[Dialect, str] = {
    "sqlite": "SELECT x.name, x.coll FROM pragma_index_list({mark}) AS i, pragma_index_xinfo(i.name) AS x "
    "WHERE x.seqno = 0",
    "mysql": "SELECT column_name, '' FROM information_schema.statistics WHERE table_schema = {schema} "
    "AND table_name = {mark} AND seq_in_index = 1",
    "postgresql": "SELECT indexdef::text, '' FROM pg_indexes WHERE schemaname = {schema} AND tablename = {mark}",
}
_VIEWS: dict[Dialect, str] = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = {mark}",
    "mysql": "SELECT 1 FROM information_schema.views WHERE table_schema = {schema} AND table_name = {mark}",
    "postgresql": "SELECT 1 FROM pg_class WHERE relnamespace = {schema}::text::regnamespace "
    "AND relname = {mark}::text AND relkind IN ('v', 'm', 'f')",
}
_CREATE_INDEX: dict[Dialect, str] = {
    "sqlite": "CREATE INDEX posthouse_{name}_key ON {table} ({key} COLLATE NOCASE)",
    "mysql": "CREATE INDEX posthouse_{name}_key ON {table} ({key})",
    "postgresql": "CREATE INDEX posthouse_{name}_key ON {table} (lower({key}))",
}
_ENGINE = "SELECT engine FROM information_schema.tables WHERE table_schema = {schema} AND table_name = {mark}"
_WITHOUT_TRANSACTIONS = ("MyISAM", "Aria", "MEMORY", "CSV")
_HERE: dict[Dialect, str] = {"sqlite": "''", "mysql": "DATABASE()", "postgresql": "current_schema()"}
_TEXT = re.compile(r"char|text|clob|enum|^$|name|blob", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shape:
    """One table. ``columns``: names in lower case and their type and collation."""

    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])

    def id_column(self, source: Source) -> str:
        """The column to count rows by, or an empty string."""
        if source.id.lower() in self.columns:
            return source.id
        return "id" if "id" in self.columns else ""

    def collation(self, key: str) -> str:
        return self.columns.get(key.lower(), ("", ""))[1]

    def is_case_sensitive(self, key: str) -> bool:
        """Whether the collation, MySQL's that is, tells capitals from small letters."""
        return self.collation(key).endswith(("_bin", "_cs", "binary"))


async def inspect_shape(
    queries: Queries, tables: Tables, classic: Mapping[str, str], tally: Tally
) -> dict[str, Shape]:
    """Look at every table that look-ups read; those that can be used, by name.

    ``classic``: the statement that makes each of those that Posthouse would make itself.
    """
    sources = (tables.users, *tables.virtual, *tables.relocated, *tables.transport, *tables.alias)
    shapes: dict[str, Shape] = {}
    for source in sources:
        shape = Shape({str(name).lower(): (str(kind), str(collation)) for name, kind, collation in
                       await _ask(queries, _COLUMNS, source.table)})  # fmt: skip
        if not shape.columns:
            tally.add(source.table, "missing-table", classic.get(source.table, "its columns: " + _names(source)))
            continue
        extra = (tables.password,) if source is tables.users else ()
        if _has_columns(source, extra, shape, tally):
            shapes[source.table] = shape
            await _check_index(queries, source, tally)
            await _check_engine(queries, source, tally)
    return shapes


async def _ask(queries: Queries, statements: Mapping[Dialect, str], table: str) -> Sequence[Sequence[object]]:
    schema, _, name = table.rpartition(".")
    mark = PLACEHOLDERS[queries.dialect]
    here = mark(2) if schema and queries.dialect == "postgresql" else mark(1) if schema else _HERE[queries.dialect]
    sql = statements[queries.dialect].format(schema=here, mark=mark(1))
    if not schema or queries.dialect == "sqlite":
        return await queries.query(sql, (name,))
    return await queries.query(sql, (schema, name) if queries.dialect == "mysql" else (name, schema))


def _has_columns(source: Source, extra: Sequence[str], shape: Shape, tally: Tally) -> bool:
    wanted = [column for column in (source.key, *source.values, *extra) if is_name(column)]
    if missing := [column for column in wanted if column.lower() not in shape.columns]:
        for column in missing:
            tally.add(source.table, "missing-column", column)
        return False
    for column in (source.key, *extra):
        kind = shape.columns.get(column.lower(), ("", ""))[0]
        if not _TEXT.search(kind):
            tally.add(source.table, "wrong-type", f"{column} is {kind}")
            return False
    return True


async def _check_index(queries: Queries, source: Source, tally: Tally) -> None:
    if not is_name(source.key):
        return
    if await _ask(queries, _VIEWS, source.table):
        tally.add(source.table, "view")
        return
    key = source.key.lower()
    for column, collation in await _ask(queries, _INDEXED, source.table):
        if _serves(queries.dialect, str(column).lower(), str(collation), key):
            return
    create = _CREATE_INDEX[queries.dialect].format(
        name=source.table.replace(".", "_"), table=_quoted(queries.dialect, source.table), key=source.key
    )
    tally.add(source.table, "no-index", create)


async def _check_engine(queries: Queries, source: Source, tally: Tally) -> None:
    if queries.dialect == "mysql":
        for (engine,) in await _ask(queries, {"mysql": _ENGINE}, source.table):
            if engine in _WITHOUT_TRANSACTIONS:
                tally.add(source.table, "no-transactions", str(engine))


def _serves(dialect: Dialect, column: str, collation: str, key: str) -> bool:
    if dialect == "postgresql":
        return re.search(rf'\(\(?lower\(\(?"?{re.escape(key)}"?\)?(::text)?\)', column) is not None
    return column == key and (dialect == "mysql" or collation.upper() == "NOCASE")


def _quoted(dialect: Dialect, table: str) -> str:
    quote = "`" if dialect == "mysql" else '"'
    return ".".join(f"{quote}{part}{quote}" for part in table.split("."))


def _names(source: Source) -> str:
    return ", ".join(column for column in (source.key, *source.values) if is_name(column))
