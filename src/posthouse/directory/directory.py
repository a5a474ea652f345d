"""The directory: domains, accounts and addresses, whichever database has them; a cache, and the way to change them.

Invariants:
  1. What the database can't answer is ``TryLater``; nothing is refused for good because of it. While it does not
     answer, what was known is still told, however old.
  2. A change that our own tools make is seen at once by this host's processes, and within a second by others'; one
     that is made by hand within ``POSITIVE_SECONDS``, in an SQLite file within ``LOOK_SECONDS``.
  3. An object serves one event loop.
"""

import time
from collections.abc import Awaitable, Callable, Hashable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from posthouse.base.errors import Refused, TryLater
from posthouse.config.settings import Settings
from posthouse.directory import presets
from posthouse.directory.cache import FOREVER, Cache, Entry
from posthouse.directory.changes import Changes, FileChanges, NetworkChanges
from posthouse.directory.checked import CheckedDatabase
from posthouse.directory.database import PLACEHOLDERS, Database, Transaction
from posthouse.directory.destinations import is_broken
from posthouse.directory.lookups import BrokenRow, NoAnswer
from posthouse.directory.model import (
    Account,
    Actor,
    Explanation,
    MapName,
    Resolution,
    SendingLimits,
    StoredCredentials,
    ToMailbox,
)
from posthouse.directory.queries import Statements
from posthouse.directory.records import foreign_tables
from posthouse.directory.resolution import Outcome, Resolver, Rules
from posthouse.directory.rows import SqlLookups
from posthouse.directory.sqlite import SCHEME, SqliteDatabase
from posthouse.message.address import lookup_key, split
from posthouse.runtime.log import log
from posthouse.runtime.measures import DIRECTORY_LOOKUPS, DIRECTORY_SECONDS

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

T = TypeVar("T")
CACHE_WEIGHT = 20_000
"""Answers that are kept, a resolution counting for each of its destinations: about 20 MB."""
LOOK_SECONDS = 0.02
"""How long the answer to whether something has changed is believed: under load it costs more than the look-up."""
POSITIVE_SECONDS = 30.0
NEGATIVE_SECONDS = 5.0
"""How long answers of a database on the network are believed; no row, no such mailbox, a broken row is negative."""
_USED_SECONDS = 3_600.0


class Directory:
    """Domains, accounts and addresses."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds, never going back. Raises ``TryLater`` for a database that can't be."""
        self.database: Database = _database(settings)
        self._clock = clock
        self._is_file = isinstance(self.database, SqliteDatabase)
        self._statements = Statements(self.database.dialect, presets.tables(settings.database))
        self._asked: Database = self.database if self._is_file else CheckedDatabase(self.database)
        self._lookups = SqlLookups(self._asked, self._statements, keeps_domains=self._is_file)
        self._rules = Rules(
            settings.hostname.lower(),
            settings.smtp.recipient_delimiter,
            settings.smtp.catchall == "before-accounts",
            settings.mail.minimum_uid,
        )
        self.resolver = Resolver(self._lookups, self._rules)
        self._foreign = foreign_tables(settings.database)
        self._changes: Changes = (
            FileChanges(self.database) if self._is_file else NetworkChanges(self._asked, settings, self._answered)
        )
        self._cache = Cache(CACHE_WEIGHT)
        self._looked = -1.0
        self._serves_stale = False
        self._used: dict[int, float] = {}

    async def open(self, *, may_be_away: bool = False) -> None:
        """Raises ``TryLater``: no database, or not the schema that this version needs.

        A database on the network ``may_be_away`` for those who serve: everything is ``TryLater`` until it answers.
        """
        await self._asked.open(may_be_away=may_be_away)
        await self._changes.start()

    async def close(self) -> None:
        await self._changes.stop()
        await self.database.close()

    # Resolving

    async def resolve(self, address: str) -> Resolution:
        """Where mail for ``address`` goes.

        Raises ``Refused`` (unknown, moved, an ``error:`` transport) or ``TryLater`` (loops, limits, broken rows,
        no database).
        """
        result = await self._known(address, self._resolve)
        if isinstance(result, Refused):
            raise Refused(result.reply, result.reason)
        if isinstance(result, TryLater):
            # Kept too, or an outsider has a worker walk through a broken list for each recipient.
            raise TryLater(result.reason)
        return result

    async def _resolve(self, address: str) -> Entry:
        outcome: Outcome = await self.resolver.outcome(address)
        is_positive, weight = False, 0
        if isinstance(outcome.result, Resolution):
            # A branch that leads nowhere is a negative answer too.
            is_positive = not outcome.result.failures
            weight = len(outcome.result.destinations) + len(outcome.result.failures)
        return self._entry(outcome.result, is_positive, weight + len(address) // 256, is_timed=outcome.asked_host)

    async def explain(self, address: str) -> Explanation:
        """The same from the rows themselves, with every step; nothing is raised."""
        await self._look()
        return await self.resolver.explain(address)

    async def is_hosted(self, domain: str) -> bool:
        """Whether mail for ``domain`` ends here."""
        return await self._known((domain, "hosted"), self._is_hosted)

    async def _is_hosted(self, key: tuple[str, str]) -> Entry:
        site = await self.resolver.site(lookup_key(f"@{key[0]}")[1:])
        return self._entry(site.is_hosted, site.is_hosted)

    async def is_disabled(self, domain: str) -> bool:
        """Whether an operator has turned ``domain`` off: neither delivery nor login."""
        return await self._known((domain, "disabled"), self._is_disabled)

    async def _is_disabled(self, key: tuple[str, str]) -> Entry:
        site = await self.resolver.site(lookup_key(f"@{key[0]}")[1:])
        return self._entry(site.is_disabled, not site.is_disabled)

    async def may_send_as(self, login: str, sender: str) -> bool:
        """Whether mail from ``sender`` may come from this login: it is its address, leads to its mailbox, or an
        operator has said so. Raises ``TryLater``."""
        login = lookup_key(login)
        return (
            lookup_key(sender) == login
            or await self._leads_to(sender, login)
            or await self._is_granted(login, sender)
        )

    async def _leads_to(self, sender: str, login: str) -> bool:
        try:
            resolution = await self.resolve(sender)
        except Refused:
            return False
        return not resolution.relay and any(
            isinstance(destination, ToMailbox) and destination.account.email.lower() == login
            for destination in resolution.destinations
        )

    async def _is_granted(self, login: str, sender: str) -> bool:
        granted: frozenset[str] = await self._known((login, "senders"), self._senders)
        return bool(granted) and not granted.isdisjoint(self._grants(sender))

    async def _senders(self, key: tuple[str, str]) -> Entry:
        found = await self._lookups.senders(key[0])
        return self._entry(found, bool(found), len(found))

    async def granted(self, sender: str) -> tuple[str, ...]:
        """The logins that may send as ``sender`` because an operator has said so. Raises ``TryLater``."""
        return await self._known((lookup_key(sender), "granted"), self._granted)

    async def _granted(self, key: tuple[str, str]) -> Entry:
        found = await self._lookups.granted(self._grants(key[0]))
        return self._entry(found, bool(found), len(found))

    def _grants(self, sender: str) -> tuple[str, ...]:
        """What a grant may say for ``sender`` to be meant."""
        keys = self.resolver.keys(lookup_key(sender))
        return (*keys.addresses(), keys.catchall)

    async def sending_limits(self, login: str) -> tuple[SendingLimits, SendingLimits, SendingLimits]:
        """What is set for this login, for each login of its domain, and for all of those together.

        Raises ``TryLater``.
        """
        return await self._known((lookup_key(login), "limits"), self._limits)

    async def _limits(self, key: tuple[str, str]) -> Entry:
        domain = split(key[0])[1]
        names = (key[0], f"@{domain}", domain)
        found = await self._lookups.limits(names)
        return self._entry(tuple(found.get(name, SendingLimits()) for name in names), is_positive=True)

    # Logging in

    async def account(self, email: str) -> Account | None:
        """The account whose address this is, enabled or not. Raises ``TryLater``."""
        return await self._known((email, "account"), self._account)

    async def _account(self, key: tuple[str, str]) -> Entry:
        email = lookup_key(key[0])
        accounts = await self._lookups.accounts(email)
        if len(accounts) > 1:
            accounts = [account for account in accounts if account.enabled] or accounts[:1]
        if len(accounts) > 1:
            raise BrokenRow("users", email, f"{len(accounts)} accounts have this address")
        return self._entry(accounts[0] if accounts else None, bool(accounts))

    async def credentials(self, email: str) -> StoredCredentials | None:
        """What a login by that address can be checked against. Raises ``TryLater``."""
        return await self._known((email, "credentials"), self._credentials)

    async def _credentials(self, key: tuple[str, str]) -> Entry:
        found = await self._lookups.credentials(lookup_key(key[0]))
        weight = len(found.app_passwords) + len(found.clear) // 256 if found else 0
        return self._entry(found, found is not None, weight)

    async def upgrade_password(self, email: str, old_clear: str, scram_sha256: str, argon2id: str) -> None:
        """Put our own secrets in the place of a password, but only where that is still ``old_clear``.

        Raises ``TryLater``. Nothing happens where the password is not in a plain column of a table.
        """
        insert, update = self._statements.upgrade()
        if not insert:
            return
        email = lookup_key(email)
        # While the old one is there it is what counts, so nobody is shut out between the two.
        if await self._asked.run(insert, (email, scram_sha256, argon2id, email, email, old_clear)):
            await self._asked.run(update, (email, email, old_clear))
            await self._asked.run("UPDATE posthouse_state SET version = version + 1")
            self._changed()

    async def used_app_password(self, id: int, peer_address: str) -> None:  # noqa: A002
        """Remember when and from where an app password was used last, once an hour at most. Raises ``TryLater``."""
        now = self._clock()
        if self._used.get(id, 0.0) > now:
            return
        if len(self._used) > CACHE_WEIGHT:
            self._used.clear()
        used, hour_ago = _time(), _time(-_USED_SECONDS)
        marks = [PLACEHOLDERS[self.database.dialect](number) for number in range(1, 5)]
        await self._asked.run(
            f"UPDATE posthouse_app_passwords SET last_used = {marks[0]}, last_peer = {marks[1]}"  # noqa: S608
            f" WHERE id = {marks[2]} AND last_used < {marks[3]}",
            (used, peer_address[:64], id, hour_ago),
        )
        self._used[id] = now + _USED_SECONDS

    # Other programs

    async def lookup(self, table: MapName, key: str) -> tuple[str, ...] | None:
        """A key's destinations as they stand in the table; None: there is no row.

        ``users`` has an enabled account's maildir, ``domains`` the transport of a hosted domain. Raises ``TryLater``.
        """
        return await self._known((key, table), self._lookup)

    async def _lookup(self, asked: tuple[str, MapName]) -> Entry:
        key, table = lookup_key(asked[0]), asked[1]
        if table == "domains":
            site = await self.resolver.site(key)
            found = (f"{site.route.transport}:{site.route.nexthop}",) if site.is_hosted else ()
        elif table == "users":
            found = await self._maildir(key)
        else:
            found = tuple(await self._lookups.destinations(table, key))
            if found and table in ("virtual", "alias") and (trouble := is_broken(found)):
                raise BrokenRow(table, key, trouble)
        return self._entry(found or None, bool(found), len(found))

    async def _maildir(self, key: str) -> tuple[str, ...]:
        keys = self.resolver.keys(key)
        rows = await self._lookups.find((keys,))
        accounts = [account for account in rows.accounts.get(key, ()) if account.enabled]
        if len(accounts) > 1:
            raise BrokenRow("users", key, f"{len(accounts)} accounts have this address")
        return tuple(account.maildir for account in accounts if keys.names[0] not in rows.disabled)

    # Changing

    async def change(self, actor: Actor, work: "Callable[[Tables], Awaitable[T]]") -> T:
        """One transaction: what ``work(tables)`` does, and a new directory version; what ``work`` returns.

        ``work`` may run more than once, has to call ``tables.audit``, and sees what it has done so far. Changes are
        made one after the other, whichever host they come from. Raises ``TryLater``.
        """
        import sqlalchemy

        from posthouse.directory import schema

        async def run(transaction: Transaction) -> T:
            # The lock that serialises changes.
            await transaction.execute(sqlalchemy.update(schema.state).values(version=schema.state.c.version + 1))
            tables = self._tables(transaction, actor)
            result = await work(tables)
            if not tables.is_audited:
                raise RuntimeError("a change without an audit row")
            return result

        # After a failure nothing is dropped: while no server answers, what is known is all there is. Where a change
        # was made and only the answer was lost, the version tells.
        result = await self._asked.transaction(run)
        self._changed()
        return result

    async def read(self, work: "Callable[[Tables], Awaitable[T]]") -> T:
        """What ``work(tables)`` returns, from one moment's rows. Raises ``TryLater``."""

        async def run(transaction: Transaction) -> T:
            return await work(self._tables(transaction, Actor("")))

        return await self._asked.transaction(run)

    def _tables(self, transaction: Transaction, actor: Actor) -> "Tables":
        # Only who changes rows needs SQLAlchemy.
        from posthouse.directory.tables import Tables

        resolver = Resolver(SqlLookups(transaction, self._statements), self._rules)
        return Tables(transaction, actor, resolver, self._foreign)

    def _changed(self) -> None:
        self._drop()
        self._changes.announce()

    # The cache

    async def _known(self, key: Hashable, ask: Callable[[Any], Awaitable[Entry]]) -> Any:
        """The answer that is kept, or else what ``ask`` finds out."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            await self._look()
        kept = self._cache.entries.get(key)
        if kept is not None and kept.until > now:
            DIRECTORY_LOOKUPS.add("known")
            return kept.value
        generation, began = self._cache.generation, time.monotonic()
        try:
            entry = await ask(key)
        except NoAnswer as error:
            if kept is None or generation != self._cache.generation:
                DIRECTORY_LOOKUPS.add("failed")
                raise
            DIRECTORY_LOOKUPS.add("stale")
            self._tell_stale(error)
            return kept.value
        DIRECTORY_LOOKUPS.add("asked")
        DIRECTORY_SECONDS.observe(time.monotonic() - began)
        self._answered()
        self._cache.put(key, entry, generation)
        return entry.value

    def _entry(self, value: Any, is_positive: bool, weight: int = 0, *, is_timed: bool = False) -> Entry:
        if self._is_file and not is_timed:
            return Entry(value, FOREVER, 1 + weight)
        seconds = POSITIVE_SECONDS if is_positive else NEGATIVE_SECONDS
        return Entry(value, self._clock() + seconds, 1 + weight)

    async def _look(self) -> None:
        self._looked = self._clock()
        if await self._changes.look():
            self._drop()

    def _drop(self) -> None:
        self._cache.drop()
        self._lookups.forget()

    def _tell_stale(self, error: TryLater) -> None:
        if not self._serves_stale:
            self._serves_stale = True
            log.warning("directory-stale", database=self.database.name, reason=error.reason)

    def _answered(self) -> None:
        if self._serves_stale:
            self._serves_stale = False
            log.warning("directory-back", database=self.database.name)


def _database(settings: Settings) -> Database:
    if settings.database.url.startswith(SCHEME):
        return SqliteDatabase(settings)
    # Not at the top: SQLite needs none of it.
    from posthouse.directory.servers import Servers

    return Servers(settings)


def _time(offset_seconds: float = 0.0) -> str:
    """A time as tables have it."""
    moment = datetime.now(UTC) + timedelta(seconds=offset_seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
