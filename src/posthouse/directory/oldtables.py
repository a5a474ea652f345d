"""Rows of the directory's tables as services read and write them, within the transaction of ``Directory.change``.

Keys that are written are look-up keys; what is removed is found whatever its case.
"""

# ruff: noqa: S608 - what is put into statements are names of tables and columns, from _KEY.

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from posthouse.directory.model import Account

ACCOUNT_COLUMNS = "email, name, uid, gid, homedir, maildir, quota, postfix"
Table = Literal["virtual", "alias", "transport", "relocated"]
"""The tables that are a key and a destination."""
_KEY: dict[Table, str] = {"virtual": "email", "alias": "alias", "transport": "domain", "relocated": "email"}


@dataclass(frozen=True, slots=True)
class Row:
    """A key and its destination, as they stand in the table."""

    key: str
    destination: str


class Tables:
    """The tables over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def rows(self, table: Table) -> list[Row]:
        """Every row, ordered by key, then by age."""
        key = _KEY[table]
        found = self._all(f'SELECT {key}, destination FROM "{table}" ORDER BY {key} COLLATE NOCASE, id')
        return [Row(text(row[0]), text(row[1])) for row in found]

    async def accounts(self) -> list[Account]:
        """Every account, ordered by address."""
        return [
            account(row)
            for row in self._all(f"SELECT {ACCOUNT_COLUMNS} FROM users ORDER BY email COLLATE NOCASE, id")
        ]

    async def destinations(self, table: Table, key: str) -> list[str]:
        """The destinations of one key's rows."""
        found = self._all(
            f'SELECT destination FROM "{table}" WHERE {_KEY[table]} COLLATE NOCASE = ? ORDER BY id',
            key,
        )
        return [text(row[0]) for row in found]

    async def add(self, table: Table, key: str, destination: str) -> None:
        self._do(f'INSERT INTO "{table}" ({_KEY[table]}, destination) VALUES (?, ?)', key, destination)

    async def remove(self, table: Table, key: str) -> int:
        """Remove a key's rows; how many there were."""
        return self._do(f'DELETE FROM "{table}" WHERE {_KEY[table]} COLLATE NOCASE = ?', key)

    async def replace(self, table: Table, key: str, destinations: Sequence[str]) -> None:
        """Have exactly these rows for a key."""
        await self.remove(table, key)
        for destination in destinations:
            await self.add(table, key, destination)

    async def has_maildir(self, maildir: str) -> bool:
        """Whether an account has this ``maildir``."""
        return bool(self._all("SELECT 1 FROM users WHERE rtrim(maildir, '/') = rtrim(?, '/') LIMIT 1", maildir))

    async def domain_usage(self, domain: str) -> tuple[list[str], list[str]]:
        """The accounts and the ``virtual`` keys of a domain, a few of each."""
        pattern = f"%@{_escaped(domain)}"
        accounts = self._all(r"SELECT email FROM users WHERE email LIKE ? ESCAPE '\' LIMIT 5", pattern)
        keys = self._all(r"SELECT DISTINCT email FROM virtual WHERE email LIKE ? ESCAPE '\' LIMIT 5", pattern)
        return [text(row[0]) for row in accounts], [text(row[0]) for row in keys]

    async def add_account(self, new: Account) -> None:
        self._do(
            "INSERT INTO users (email, clear, name, uid, gid, homedir, maildir, quota, postfix)"
            " VALUES (?, '', ?, ?, ?, ?, ?, ?, ?)",
            new.email,
            new.name,
            new.uid,
            new.gid,
            new.homedir,
            new.maildir,
            new.quota,
            "y" if new.enabled else "n",
        )

    async def remove_account(self, email: str) -> None:
        self._do("DELETE FROM users WHERE email COLLATE NOCASE = ?", email)
        self._do("DELETE FROM posthouse_credentials WHERE email = ?", email)

    async def enable_account(self, email: str, *, enabled: bool) -> None:
        self._do("UPDATE users SET postfix = ? WHERE email COLLATE NOCASE = ?", "y" if enabled else "n", email)

    async def set_secrets(self, email: str, scram_sha256: str, argon2id: str) -> None:
        """New secrets for an account; the password in ``clear``, if there is one, is no longer valid."""
        self._do("UPDATE users SET clear = '' WHERE email COLLATE NOCASE = ?", email)
        self._do(
            "INSERT OR REPLACE INTO posthouse_credentials (email, scram_sha256, argon2id) VALUES (?, ?, ?)",
            email,
            scram_sha256,
            argon2id,
        )

    def audit(self, who: str, what: str, subject: str, detail: str) -> None:
        """The row that tells of a change, and the new directory version."""
        self._do(
            'INSERT INTO posthouse_audit ("when", who, what, object, detail)'
            " VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?, ?, ?, ?)",
            who,
            what,
            subject,
            detail,
        )
        self._do("UPDATE posthouse_state SET version = version + 1")

    def _all(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def _do(self, sql: str, *parameters: str | int) -> int:
        return self._connection.execute(sql, parameters).rowcount


def account(row: Sequence[Any]) -> Account:
    """A row of ``ACCOUNT_COLUMNS``. A uid or gid that is no number is -1, which no rule allows."""
    email, name, uid, gid, homedir, maildir, quota, postfix = row
    return Account(
        text(email),
        text(name),
        _number(uid),
        _number(gid),
        text(homedir),
        text(maildir),
        text(quota),
        text(postfix).lower() == "y",
    )


def text(value: Any) -> str:
    """A column as text, whatever was put into it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return -1


def _escaped(pattern: str) -> str:
    return pattern.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
