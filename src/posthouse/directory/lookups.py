"""What resolving asks of a database: everything that the tables have under an address's keys, in one question."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from posthouse.base.errors import TryLater
from posthouse.directory.model import Account

MAX_ROWS = 1_001
"""No question is answered with more rows: one above what an address may expand to, so that it can be told."""

Destinations = Mapping[str, Sequence[str]]
"""Keys, in lower case, and their rows' destinations; NULL is ``""``."""


class NoAnswer(TryLater):
    """The database does not answer. Unlike rows that can't be used, what it said before may still be told."""


class BrokenAliases(TryLater):
    """Aliases that form a loop, or that go beyond the limits."""


class BrokenRow(TryLater):
    """A row that can't mean what somebody meant by it."""

    def __init__(self, table: str, key: str, text: str, ids: str = "") -> None:
        super().__init__(f"{table} row {key[:300]}{f' (id {ids})' if ids else ''}: {text}")
        self.table = table
        self.key = key
        self.text = text


class TooManyRows(TryLater):
    """More rows than one question may have."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under which tables may have an address, most specific first; ``""`` where there is none.

    ``full`` is ``user+ext@domain``, ``plain`` is ``user@domain`` where there is an extension, ``user`` is the
    bare local part where the domain is the host's own, ``catchall`` is ``@domain``. ``names`` is where ``transport``
    may have the domain: itself, each ``.parent``, ``*``. ``locals`` are keys of local aliases, where those are asked
    for.
    """

    full: str = ""
    plain: str = ""
    user: str = ""
    catchall: str = ""
    names: tuple[str, ...] = ()
    locals: tuple[str, ...] = ()

    def addresses(self) -> tuple[str, ...]:
        return (self.full, self.plain) if self.plain else (self.full,) if self.full else ()

    def users(self) -> tuple[str, ...]:
        """Every key but the catch-all."""
        return (*self.addresses(), self.user) if self.user else self.addresses()


@dataclass(frozen=True, slots=True)
class Rows:
    """What the tables have under the keys that were asked for. ``disabled`` are domains that are turned off."""

    virtual: Destinations
    relocated: Destinations
    transport: Destinations
    alias: Destinations
    accounts: Mapping[str, Sequence[Account]]
    disabled: Collection[str]


class Lookups(Protocol):
    """A database with the five tables."""

    @property
    def at_once(self) -> int:
        """How many addresses it is worth asking for together."""
        ...

    async def find(self, wanted: Sequence[Keys]) -> Rows:
        """The rows for all of these together. Raises ``NoAnswer``, ``TooManyRows``."""
        ...

    async def ids(self, table: str, key: str) -> str:
        """The ids of a key's rows, for messages; empty where the table has none. Raises ``NoAnswer``."""
        ...
