"""What services read from tables and write to them, as plain values.

Keys of the classic tables are as they stand there; keys of ours are look-up keys. Times are text, UTC, as in
``2026-11-22T21:29:43.000Z``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from posthouse.config.settings import Database, Lookup, UsersLookup
from posthouse.directory.model import Account

KeyedTable = Literal["virtual", "alias", "transport", "relocated"]
"""The tables that are a key and a destination."""
KEYED: tuple[KeyedTable, ...] = ("virtual", "alias", "transport", "relocated")
PAGE_ROWS = 2_000
_YES = frozenset({"y", "yes", "1", "t", "true"})


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a listing by key goes on: after this key, as the database compares it, and this row."""

    key: str = ""
    id: int = 0


START = Cursor()


@dataclass(frozen=True, slots=True)
class Row:
    """A key and its destination, as they stand in the table."""

    id: int
    key: str
    destination: str


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account with the row that has it and what it can log in with; each of the last three may be empty."""

    id: int
    account: Account
    clear: str = ""
    scram_sha256: str = ""
    argon2id: str = ""


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """What a domain may have. ``default_quota`` is as in ``users.quota``; None is no limit.

    A domain that is not ``enabled`` gets no mail, and none of its accounts may log in.
    """

    enabled: bool = True
    max_accounts: int | None = None
    default_quota: str = ""
    total_quota_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class KeptAppPassword:
    """An app password, but for what it is. ``last_used`` and ``last_peer`` are empty until it is used."""

    id: int
    name: str
    scopes: tuple[str, ...]
    created: str
    last_used: str
    last_peer: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, when and from where."""

    id: int
    when: str
    who: str
    what: str
    object: str
    detail: str
    source: str


def account(row: Sequence[Any]) -> Account:
    """A row of ``users``, all but ``id`` and ``clear``. A uid or gid that is no number is -1: no rule lets it in."""
    email, name, uid, gid, homedir, maildir, quota, postfix = row
    return Account(
        text(email),
        text(name),
        _number(uid),
        _number(gid),
        text(homedir),
        text(maildir),
        text(quota),
        is_yes(text(postfix)),
    )


def is_yes(value: str) -> bool:
    """Whether a column says that something is enabled, in any of the ways that tables have."""
    return value.strip().lower() in _YES


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


def foreign_tables(database: Database) -> frozenset[str]:
    """Those of the five tables that the configuration finds elsewhere: they are another program's to change."""
    if database.schema != "posthouse":
        return frozenset({*KEYED, "users"})
    configured = {name for name in KEYED if getattr(database, name) != Lookup()}
    return frozenset(configured | ({"users"} if database.users != UsersLookup() else set()))
