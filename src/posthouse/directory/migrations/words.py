"""What revisions are written in: SQL with a few words that each database has its own for.

Invariants:
  1. Everything may be done again after it was done, in part or in whole: MariaDB commits each statement by itself,
     and a migration that was interrupted there is simply run once more.
  2. None of the five tables is touched that was there before.
"""

# ruff: noqa: S608 - what is put into statements are names of our own tables.

from alembic import op

_WORDS = {
    "sqlite": {
        "q": '"',
        "id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
        "key": "TEXT",
        "own_key": "TEXT",
        "yes_no": "TEXT DEFAULT 'y' CONSTRAINT posthouse_users_postfix CHECK (postfix IN ('y', 'n'))",
        "options": "",
    },
    "mysql": {
        "q": "`",
        "id": "INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY",
        "key": "VARCHAR(255)",
        "own_key": "VARCHAR(320) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "yes_no": "ENUM('y', 'n') DEFAULT 'y'",
        "options": " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    },
    "postgresql": {
        "q": '"',
        "id": "SERIAL NOT NULL PRIMARY KEY",
        "key": "VARCHAR(255)",
        "own_key": "VARCHAR(320)",
        "yes_no": "VARCHAR(1) DEFAULT 'y' CONSTRAINT posthouse_users_postfix CHECK (postfix IN ('y', 'n'))",
        "options": "",
    },
}
_CLASSIC = {
    "alias": "alias {key}, destination TEXT",
    "relocated": "email {key}, destination TEXT",
    "transport": "domain {key} UNIQUE, destination TEXT",
    "users": "email {key} UNIQUE, clear TEXT, name TEXT, uid INTEGER DEFAULT 1001, gid INTEGER DEFAULT 1001, "
    "homedir TEXT, maildir TEXT, quota TEXT, postfix {yes_no}",
    "virtual": "email {key}, destination TEXT",
}
_INDEXED = {
    "sqlite": "CREATE INDEX IF NOT EXISTS posthouse_{table}_key ON {q}{table}{q} ({key} COLLATE NOCASE)",
    "postgresql": "CREATE INDEX IF NOT EXISTS posthouse_{table}_key ON {q}{table}{q} (lower({key}))",
}


def _dialect() -> str:
    return op.get_context().dialect.name


def is_to_be_made(table: str) -> bool:
    """Whether this one of the five is missing, and ours to make."""
    return table in op.get_context().opts["make"]


def make_classic(table: str) -> None:
    """One of the five, with an index for look-ups."""
    for statement in classic(table, _dialect()):
        op.execute(statement)


def classic(table: str, dialect: str) -> tuple[str, ...]:
    """The statements that make one of the five tables."""
    words = _WORDS[dialect]
    columns = _CLASSIC[table]
    key = columns.partition(" ")[0]
    inline = ", KEY posthouse_{table}_key ({key})" if dialect == "mysql" and "UNIQUE" not in columns else ""
    create = "CREATE TABLE IF NOT EXISTS {q}{table}{q} (id {id}, " + columns.format(**words) + inline + "){options}"
    statements = [create, _INDEXED[dialect]] if dialect in _INDEXED else [create]
    return tuple(statement.format(**{**words, "table": table, "key": key}) for statement in statements)


def do(*scripts: str) -> None:
    """Run statements, each of which ends in a semicolon and a new line or is the last, with this database's words."""
    for script in scripts:
        for statement in script.strip().removesuffix(";").split(";\n"):
            op.execute(statement.format(**_WORDS[_dialect()]))


def when(dialect: str, *scripts: str) -> None:
    """Run statements on one kind of database only."""
    if _dialect() == dialect:
        do(*scripts)


def add_column(table: str, column: str, definition: str) -> None:
    """A further column of a table of ours, unless it is there."""
    _alter(table, column, f"ALTER TABLE {table} ADD COLUMN {{if_not}}{column} {definition}", present=False)


def drop_column(table: str, column: str) -> None:
    """Drop a column of a table of ours, if it is there."""
    _alter(table, column, f"ALTER TABLE {table} DROP COLUMN {{if_is}}{column}", present=True)


def _alter(table: str, column: str, statement: str, *, present: bool) -> None:
    dialect = _dialect()
    if dialect == "postgresql":
        op.execute(statement.format(if_not="IF NOT EXISTS ", if_is="IF EXISTS "))
        return
    plain = statement.format(if_not="", if_is="")
    if dialect == "sqlite":  # which does all of a migration or nothing
        op.execute(plain)
        return
    # MySQL, unlike MariaDB, has no IF EXISTS here.
    quoted = plain.replace("'", "''")
    op.execute(
        f"SET @posthouse = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() "
        f"AND table_name = '{table}' AND column_name = '{column}') = {int(present)}, '{quoted}', 'DO 0')"
    )
    op.execute("PREPARE posthouse FROM @posthouse")
    op.execute("EXECUTE posthouse")
    op.execute("DEALLOCATE PREPARE posthouse")
