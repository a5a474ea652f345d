"""The look-ups over whatever runs SQL text: a database, or one transaction on it.

Invariants:
  1. A row counts only where its key, in lower case, is exactly what was asked for.
  2. What no database can have as text (NUL, lone surrogates) is not asked for.
  3. A question about addresses is one statement, so one round trip to a network database. SQLite has no trips, so
     addresses are asked for one by one, and what concerns the domain is asked for once.
  4. A table whose character set doesn't have a key's characters has no such row, and says nothing about others: keys
     that are not ASCII are asked for in each table by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, get_args

from posthouse.base.errors import TryLater
from posthouse.directory.database import Queries, Row
from posthouse.directory.lookups import MAX_ROWS, Keys, NoAnswer, Rows, TooManyRows
from posthouse.directory.model import Account, AppPassword, MapName, SendingLimits, StoredCredentials
from posthouse.directory.queries import LIMITS, Kind, Statements
from posthouse.directory.records import account, is_yes, text
from posthouse.message.address import split

AT_ONCE = 50
_MAX_DOMAINS = 10_000
_KINDS: dict[str, Kind] = {name: Kind[name.upper()] for name in get_args(MapName) if name != "domains"}


@dataclass(frozen=True, slots=True)
class _Domain:
    """What the tables have about one domain."""

    bare: Mapping[str, Sequence[str]]
    transport: Mapping[str, Sequence[str]]
    disabled: frozenset[str]


class SqlLookups:
    """``Lookups`` by SQL. ``keeps_domains``: what is known of a domain is asked once, until ``forget``."""

    def __init__(self, queries: Queries, statements: Statements, *, keeps_domains: bool = False) -> None:
        self._queries = queries
        self._statements = statements
        self._is_near = queries.dialect == "sqlite"
        self._keeps_domains = keeps_domains
        self._domains: dict[tuple[str, ...], _Domain] = {}
        self._credentials = statements.credentials()

    @property
    def at_once(self) -> int:
        return 1 if self._is_near else AT_ONCE

    def forget(self) -> None:
        """Domains are asked for again."""
        self._domains.clear()

    async def find(self, wanted: Sequence[Keys]) -> Rows:
        if self._is_near and len(wanted) == 1:
            return await self._find_near(wanted[0])
        addresses = [key for keys in wanted for key in keys.addresses()]
        users = [key for keys in wanted for key in keys.users()]
        catchalls = [keys.catchall for keys in wanted if keys.catchall]
        names = list(dict.fromkeys(name for keys in wanted for name in keys.names))
        domains = list(dict.fromkeys(keys.names[0] for keys in wanted if keys.names))
        found = await self._ask(
            (Kind.USERS, addresses),
            (Kind.VIRTUAL, [*users, *catchalls, *domains]),
            (Kind.RELOCATED, [*users, *catchalls]),
            (Kind.TRANSPORT, [*addresses, *names]),
            (Kind.ALIAS, [key for keys in wanted for key in keys.locals]),
            (Kind.DOMAINS, domains),
        )
        return Rows(
            found.texts(Kind.VIRTUAL),
            found.texts(Kind.RELOCATED),
            found.texts(Kind.TRANSPORT),
            found.texts(Kind.ALIAS),
            found.accounts(),
            found.disabled(),
        )

    async def _find_near(self, keys: Keys) -> Rows:
        domain = await self._domain(keys.names) if keys.names else _NO_DOMAIN
        addresses, users = keys.addresses(), keys.users()
        keyed = (*users, keys.catchall) if keys.catchall else users
        found = await self._ask(
            (Kind.USERS, addresses),
            (Kind.VIRTUAL, keyed),
            (Kind.RELOCATED, keyed),
            (Kind.TRANSPORT, addresses),
            (Kind.ALIAS, keys.locals),
        )
        virtual, transport = found.texts(Kind.VIRTUAL), found.texts(Kind.TRANSPORT)
        return Rows(
            {**domain.bare, **virtual} if domain.bare else virtual,
            found.texts(Kind.RELOCATED),
            {**domain.transport, **transport} if transport else domain.transport,
            found.texts(Kind.ALIAS),
            found.accounts(),
            domain.disabled,
        )

    async def _domain(self, names: tuple[str, ...]) -> _Domain:
        known = self._domains.get(names)
        if known is None:
            found = await self._ask((Kind.VIRTUAL, names[:1]), (Kind.TRANSPORT, names), (Kind.DOMAINS, names[:1]))
            known = _Domain(found.texts(Kind.VIRTUAL), found.texts(Kind.TRANSPORT), found.disabled())
            if self._keeps_domains:
                if len(self._domains) >= _MAX_DOMAINS:
                    self._domains.clear()
                self._domains[names] = known
        return known

    async def accounts(self, email: str) -> Sequence[Account]:
        """The accounts whose address this is; more than one is a mistake in the table. Raises ``NoAnswer``."""
        return (await self._ask((Kind.USERS, (email,)))).accounts().get(email, ())

    async def destinations(self, table: MapName, key: str) -> Sequence[str]:
        """The destinations of one key's rows; of ``users``, the maildir of an enabled account."""
        kind = _KINDS[table]
        found = await self._ask((kind, (key,)))
        if kind == Kind.USERS:
            return [account.maildir for account in found.accounts().get(key, ()) if account.enabled]
        return found.texts(kind).get(key, ())

    async def credentials(self, email: str) -> StoredCredentials | None:
        """What a login by that address can be checked against. Raises ``TryLater``."""
        if not _is_text(email):
            return None
        rows = await self._query(self._credentials, (email, email, split(email)[1], email, email))
        own = [row for row in rows if row[0] == 0 and text(row[1]).lower() == email]
        if not own:
            return None
        if len(own) > 1:
            raise TryLater(f"{self._statements.tables.users.table} has {len(own)} rows for {email}")
        address, clear, scram, argon2id, enabled, domain_enabled = map(text, own[0][1:])
        return StoredCredentials(
            address,
            clear,
            scram,
            argon2id,
            is_yes(enabled) and domain_enabled != "0",
            tuple(_app_password(row) for row in rows if row[0] == 1 and text(row[1]) == email),
        )

    async def senders(self, login: str) -> frozenset[str]:
        """What a login may send as beyond its own: addresses, ``@domain``. Raises ``NoAnswer``, ``TooManyRows``."""
        rows = await self._query(self._statements.senders(), (login,)) if _is_text(login) else ()
        if len(rows) >= MAX_ROWS:
            raise TooManyRows(f"posthouse_senders has more than {MAX_ROWS - 1} rows for {login}")
        return frozenset(text(row[0]) for row in rows)

    async def granted(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """The logins that may send as one of these beyond their own. Raises ``NoAnswer``, ``TooManyRows``."""
        if not all(map(_is_text, addresses)):
            return ()
        rows = await self._query(self._statements.granted(len(addresses)), tuple(addresses))
        if len(rows) >= MAX_ROWS:
            raise TooManyRows(f"posthouse_senders has more than {MAX_ROWS - 1} rows for {addresses[0]}")
        return tuple(sorted(text(row[0]) for row in rows))

    async def limits(self, names: tuple[str, str, str]) -> Mapping[str, SendingLimits]:
        """What is set for these names. Raises ``NoAnswer``."""
        if not all(map(_is_text, names)):
            return {}
        rows = await self._query(self._statements.limits(), names)
        return {text(row[0]): _limits(row) for row in rows}

    async def ids(self, table: str, key: str) -> str:
        sql = self._statements.ids(_KINDS[table]) if table in _KINDS else ""
        if not sql or not _is_text(key):
            return ""
        rows = await self._query(sql, (key,))
        return ", ".join(text(row[1]) for row in rows if text(row[0]).lower() == key)

    async def _ask(self, *wanted: tuple[Kind, Sequence[str]]) -> "_Found":
        sql, parameters = self._statements.find(wanted)
        if not sql:
            return _NOTHING
        if not all(map(str.isascii, parameters)) or "\0" in "".join(parameters):
            wanted = tuple((kind, [key for key in keys if _is_text(key)]) for kind, keys in wanted)
            rows = await self._ask_apart(wanted)
        else:
            rows = await self._query(sql, parameters)
        if len(rows) >= MAX_ROWS:
            raise TooManyRows(f"{parameters[0]}: the tables have more than {MAX_ROWS - 1} rows for it")
        return _Found(rows, frozenset(chain.from_iterable(keys for _, keys in wanted)) if rows else frozenset())

    async def _ask_apart(self, wanted: Sequence[tuple[Kind, Sequence[str]]]) -> Sequence[Row]:
        """The rows for keys that may not be ASCII."""
        if self._is_near:
            sql, parameters = self._statements.find(wanted)
            return await self._query(sql, parameters) if sql else ()
        rows: list[Row] = []
        others = [(kind, [key for key in keys if not key.isascii()]) for kind, keys in wanted]
        for asked in (
            [(kind, [key for key in keys if key.isascii()]) for kind, keys in wanted],
            *([one] for one in others),
        ):
            rows += await self._ask_one_by_one(asked)
        return rows

    async def _ask_one_by_one(self, asked: Sequence[tuple[Kind, Sequence[str]]]) -> Sequence[Row]:
        """The rows for keys of which a table's character set may have only some: one that it doesn't hides all."""
        sql, parameters = self._statements.find(asked)
        rows = await self._query(sql, parameters) if sql else ()
        ((kind, keys), *more) = asked
        if rows or more or len(keys) < 2:
            return rows
        found: list[Row] = []
        for key in dict.fromkeys(keys):
            sql, parameters = self._statements.find([(kind, [key])])
            found += await self._query(sql, parameters) if sql else ()
        return found

    async def _query(self, sql: str, parameters: Sequence[object]) -> Sequence[Row]:
        try:
            return await self._queries.query(sql, parameters)
        except TryLater as error:
            raise NoAnswer(error.reason, error.reply) from error


class _Found:
    """The rows of one answer, by kind and key."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Sequence[Row], asked: frozenset[str]) -> None:
        self._rows: dict[Kind, dict[str, list[Row]]] = {}
        for row in rows:
            prefix, key = row[1], text(row[2]).lower()
            key = prefix + key if prefix else key
            if key in asked:
                self._rows.setdefault(row[0], {}).setdefault(key, []).append(row)

    def texts(self, kind: Kind) -> dict[str, list[str]]:
        """Keys and destinations."""
        rows = self._rows.get(kind)
        if not rows:
            return {}
        return {
            key: [row[1] + text(row[3]) if row[1] else text(row[3]) for row in some] for key, some in rows.items()
        }

    def accounts(self) -> dict[str, list[Account]]:
        rows = self._rows.get(Kind.USERS)
        return {key: [account(row[2:10]) for row in some] for key, some in rows.items()} if rows else {}

    def disabled(self) -> frozenset[str]:
        rows = self._rows.get(Kind.DOMAINS, {})
        return frozenset(key for key, some in rows.items() if any(text(row[3]) == "0" for row in some))


_NOTHING = _Found((), frozenset())
_NO_DOMAIN = _Domain({}, {}, frozenset())


def _app_password(row: Sequence[Any]) -> AppPassword:
    number, name, scopes, digest = map(text, row[2:6])
    return AppPassword(int(number), name, frozenset(scopes.split(",")) - {""}, digest)


def _limits(row: Row) -> SendingLimits:
    return SendingLimits(**dict(zip(LIMITS, row[1:], strict=False)), over_limit=text(row[-1]))


def _is_text(key: str) -> bool:
    """Whether a database can have it: nothing but characters, and no NUL."""
    if key.isascii():
        return "\0" not in key
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in key
