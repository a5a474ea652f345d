"""The directory: domains, accounts and addresses, whichever database has them; a cache, and the way to change them.

Invariants:
  1. What the database can't answer is ``TryLater``; nothing is refused for good because of it.
  2. An object serves one event loop.
"""

# ruff: noqa: S608 - what is put into statements are column names of ours and question marks.

import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from posthouse.base.errors import Refused, TryLater
from posthouse.config.settings import Settings
from posthouse.directory.database import Transaction
from posthouse.directory.lookups import MAX_ROWS, AddressRows, DomainRows, Keys
from posthouse.directory.model import (
    Account,
    Actor,
    Explanation,
    Resolution,
    StoredCredentials,
    ToMailbox,
)
from posthouse.directory.oldtables import Tables as OldTables
from posthouse.directory.records import ACCOUNT_COLUMNS, account, foreign_tables, text
from posthouse.directory.resolution import Resolver, Rules
from posthouse.directory.sqlite import SqliteDatabase
from posthouse.message.address import lookup_key

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

T = TypeVar("T")
_CACHE_WEIGHT = 50_000
"""Destinations of resolutions that are kept at most, all together; and domains."""
LOOK_SECONDS = 0.02
"""How long the answer to whether the file has changed is believed: under load it costs more than the look-up."""

_ROWS = f"""
SELECT 0, email, destination FROM virtual WHERE email COLLATE NOCASE IN (?1, ?2, ?3, ?4)
UNION ALL SELECT 1, email, destination FROM relocated WHERE email COLLATE NOCASE IN (?1, ?2, ?3, ?4)
UNION ALL SELECT 2, domain, destination FROM transport WHERE domain COLLATE NOCASE IN (?1, ?2)
LIMIT {MAX_ROWS}
"""
# Not a fourth branch above: for that, SQLite needs ten times as long.
_ACCOUNTS = f"SELECT {ACCOUNT_COLUMNS} FROM users WHERE email COLLATE NOCASE IN (?, ?)"
_ACCOUNT = f"SELECT {ACCOUNT_COLUMNS} FROM users WHERE email COLLATE NOCASE = ?"
_CREDENTIALS = """
SELECT users.email, clear, scram_sha256, argon2id, postfix FROM users
LEFT JOIN posthouse_credentials AS own ON own.email = users.email COLLATE NOCASE
WHERE users.email COLLATE NOCASE = ?
"""


class Directory:
    """Domains, accounts and addresses."""

    def __init__(self, settings: Settings) -> None:
        self.database = SqliteDatabase(settings)
        self._rules = Rules(
            settings.hostname.lower(),
            settings.smtp.recipient_delimiter,
            settings.smtp.catchall == "before-accounts",
            settings.mail.minimum_uid,
        )
        self._resolver = Resolver(self, self._rules)
        self._foreign = foreign_tables(settings.database)
        self._data_version = -1
        self._looked = -1.0
        self._resolutions: dict[str, Resolution | Refused] = {}
        self._weight = 0
        self._domains: dict[str, DomainRows] = {}

    async def open(self) -> None:
        """Raises ``TryLater``: no database, or not the schema that this version needs."""
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()

    # Resolving

    async def resolve(self, address: str) -> Resolution:
        """Where mail for ``address`` goes.

        Raises ``Refused`` (unknown, moved, an ``error:`` transport) or ``TryLater`` (loops, limits, broken rows,
        no database).
        """
        self._drop_stale_caches()
        known = self._resolutions.get(address)
        if known is None:
            try:
                known = await self._resolver.resolve(address)
            except Refused as error:
                known = Refused(error.reply, error.reason)
            self._keep(address, known)
        if isinstance(known, Refused):
            raise Refused(known.reply, known.reason)
        return known

    def _keep(self, address: str, result: Resolution | Refused) -> None:
        if self._weight > _CACHE_WEIGHT:
            self._resolutions.clear()
            self._weight = 0
        self._resolutions[address] = result
        self._weight += 1 if isinstance(result, Refused) else 1 + len(result.destinations)

    async def explain(self, address: str) -> Explanation:
        """The same from the rows themselves, with every step; nothing is raised."""
        self._drop_stale_caches()
        return await self._resolver.explain(address)

    async def is_hosted(self, domain: str) -> bool:
        """Whether mail for ``domain`` ends here."""
        self._drop_stale_caches()
        return (await self._resolver.site(lookup_key(f"@{domain}")[1:])).is_hosted

    async def may_send_as(self, login: str, sender: str) -> bool:
        """Whether mail from ``sender`` may come from this login: it is its address, or leads to its mailbox."""
        login = lookup_key(login)
        if lookup_key(sender) == login:
            return True
        try:
            resolution = await self.resolve(sender)
        except Refused:
            return False
        return not resolution.relay and any(
            isinstance(destination, ToMailbox) and destination.account.email.lower() == login
            for destination in resolution.destinations
        )

    # Logging in

    async def account(self, email: str) -> Account | None:
        """The account whose address this is, enabled or not."""
        rows = self._query(_ACCOUNT, (lookup_key(email),))
        return account(rows[0]) if rows else None

    async def credentials(self, email: str) -> StoredCredentials | None:
        """What a login by that address can be checked against."""
        rows = self._query(_CREDENTIALS, (lookup_key(email),))
        if not rows:
            return None
        address, clear, scram, argon2id, postfix = map(text, rows[0])
        return StoredCredentials(address, clear, scram, argon2id, postfix.lower() == "y")

    # Changing

    def change(self, actor: Actor | str, *arguments: Any) -> Any:
        """One transaction: what ``work(tables)`` does, and a new directory version; what ``work`` returns.

        ``work`` may run more than once, has to call ``tables.audit``, and sees what it has done so far.
        """
        if isinstance(actor, str):
            return self._change_in_block(actor, *arguments)
        return self._change(actor, *arguments)

    async def _change(self, actor: Actor, work: "Callable[[Tables], Awaitable[T]]") -> T:
        import sqlalchemy

        from posthouse.directory import schema
        from posthouse.directory.tables import Tables

        async def run(transaction: Transaction) -> T:
            # The lock that serialises changes, whichever host makes them.
            await transaction.execute(sqlalchemy.update(schema.state).values(version=schema.state.c.version + 1))
            tables = Tables(transaction, actor, self._resolver, self._foreign)
            result = await work(tables)
            if not tables.is_audited:
                raise RuntimeError("a change without an audit row")
            return result

        try:
            return await self.database.transaction(run)
        finally:
            self._drop_caches()

    async def read(self, work: "Callable[[Tables], Awaitable[T]]") -> T:
        """What ``work(tables)`` returns, from one moment's rows."""
        from posthouse.directory.tables import Tables

        async def run(transaction: Transaction) -> T:
            return await work(Tables(transaction, Actor(""), self._resolver, self._foreign))

        return await self.database.transaction(run)

    @asynccontextmanager
    async def _change_in_block(self, who: str, what: str, subject: str, detail: str = "") -> AsyncIterator[OldTables]:
        """One transaction: what the block does to the tables, an audit row, and a new directory version.

        Nothing of it stays when the block raises; look-ups inside the block see what it has done so far.
        """
        connection = self.database.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise TryLater(f"database {self.database.path}: {error}") from error
        tables = OldTables(connection)
        self._drop_caches()
        try:
            yield tables
            tables.audit(who, what, subject, detail)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise TryLater(f"database {self.database.path}: {error}") from error
            raise
        finally:
            self._drop_caches()

    def tables(self) -> OldTables:
        """The rows, for reading."""
        return OldTables(self.database.connection)

    # Lookups, for the resolver

    async def address(self, keys: Keys) -> AddressRows:
        plain = keys.plain or None
        rows = self._query(_ROWS, (keys.full, plain, keys.user or None, keys.catchall))
        if len(rows) == MAX_ROWS:
            raise TryLater(f"{keys.full}: the tables have more than {MAX_ROWS - 1} rows for it")
        found: tuple[dict[str, list[str]], ...] = ({}, {}, {})
        for table, key, destination in rows:
            found[table].setdefault(key.lower(), []).append(text(destination))
        accounts = [account(row) for row in self._query(_ACCOUNTS, (keys.full, plain))]
        return AddressRows(*found, {one.email.lower(): one for one in accounts})

    async def domain(self, names: Sequence[str]) -> DomainRows:
        known = self._domains.get(names[0])
        if known is None:
            marks = ", ".join("?" * len(names))
            bare = self._query("SELECT 1 FROM virtual WHERE email COLLATE NOCASE = ? LIMIT 1", names[:1])
            transport = f"SELECT domain, destination FROM transport WHERE domain COLLATE NOCASE IN ({marks})"
            known = DomainRows(bool(bare), self._grouped(transport, names))
            if len(self._domains) > _CACHE_WEIGHT:
                self._domains.clear()
            self._domains[names[0]] = known
        return known

    async def local_alias(self, names: Sequence[str]) -> dict[str, list[str]]:
        marks = ", ".join("?" * len(names))
        return self._grouped(
            f"SELECT alias, destination FROM alias WHERE alias COLLATE NOCASE IN ({marks}) LIMIT {MAX_ROWS}",
            names,
        )

    def _grouped(self, sql: str, names: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key, destination in self._query(sql, tuple(names)):
            found.setdefault(key.lower(), []).append(text(destination))
        return found

    # The connection

    def _query(self, sql: str, parameters: Sequence[str | None] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.database.connection.execute(sql, parameters).fetchall()
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise TryLater(f"database {self.database.path}: {error}") from error

    def _drop_stale_caches(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        ((version,),) = self._query("PRAGMA data_version")
        if version != self._data_version:
            self._data_version = version
            self._drop_caches()

    def _drop_caches(self) -> None:
        self._resolutions.clear()
        self._domains.clear()
        self._weight = 0
