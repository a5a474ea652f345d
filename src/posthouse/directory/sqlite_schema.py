"""The directory's tables in SQLite: the classic five, and what Posthouse needs beside them.

The five keep the names and columns that Postfix, Courier and PAM know, and existing ones are adopted as they
are; text is wider where they are made here. Everything of our own has a name that begins with ``posthouse_``.
Keys are compared without regard to case (ASCII), which an index of each key column serves.
"""

import sqlite3

from posthouse.base.errors import TryLater

VERSION = 1

COLUMNS = {
    "alias": ("id", "alias", "destination"),
    "relocated": ("id", "email", "destination"),
    "transport": ("id", "domain", "destination"),
    "users": (
        "id",
        "email",
        "clear",
        "name",
        "uid",
        "gid",
        "homedir",
        "maildir",
        "quota",
        "postfix",
    ),
    "virtual": ("id", "email", "destination"),
}

_TABLES = """
CREATE TABLE IF NOT EXISTS "alias" (id INTEGER PRIMARY KEY AUTOINCREMENT, alias TEXT, destination TEXT);
CREATE TABLE IF NOT EXISTS "relocated" (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT, destination TEXT);
CREATE TABLE IF NOT EXISTS "transport" (
    id INTEGER PRIMARY KEY AUTOINCREMENT, domain TEXT UNIQUE, destination TEXT);
CREATE TABLE IF NOT EXISTS "users" (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE, clear TEXT, name TEXT,
    uid INTEGER DEFAULT 1001, gid INTEGER DEFAULT 1001, homedir TEXT, maildir TEXT, quota TEXT,
    postfix TEXT DEFAULT 'y' CHECK (postfix IN ('y', 'n')));
CREATE TABLE IF NOT EXISTS "virtual" (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT, destination TEXT);

CREATE INDEX IF NOT EXISTS posthouse_alias_key ON "alias" (alias COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_relocated_key ON "relocated" (email COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_transport_key ON "transport" (domain COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_users_key ON "users" (email COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_virtual_key ON "virtual" (email COLLATE NOCASE);

CREATE TABLE IF NOT EXISTS posthouse_credentials (
    email TEXT PRIMARY KEY COLLATE NOCASE, scram_sha256 TEXT NOT NULL, argon2id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS posthouse_audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, "when" TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    object TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS posthouse_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
INSERT OR IGNORE INTO posthouse_state VALUES (1, 1);
"""

MIGRATIONS = (_TABLES,)
"""What leads from each version to the next; ``PRAGMA user_version`` says how many have been done."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make what is missing. Raises ``TryLater`` for a database that isn't ours to use."""
    if _version(connection) < VERSION:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have done it while we waited.
            for script in MIGRATIONS[_version(connection) :]:
                for statement in script.split(";\n"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    if (found := _version(connection)) > VERSION:
        raise TryLater(f"the database is of a newer Posthouse (version {found}, this one knows {VERSION})")
    _check_columns(connection)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_columns(connection: sqlite3.Connection) -> None:
    for table, columns in COLUMNS.items():
        present = {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}
        if missing := [column for column in columns if column not in present]:
            raise TryLater(f"table {table} has no column {', '.join(missing)}")
