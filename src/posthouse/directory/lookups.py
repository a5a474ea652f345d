"""What resolving asks of a database: two questions about an address and one about a local alias."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from posthouse.directory.model import Account

MAX_ROWS = 1_001
"""No question is answered with more rows: one above what an address may expand to, so that it can be told."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under which tables may have an address, most specific first; ``""`` where there is none.

    ``full`` is ``user+ext@domain``, ``plain`` is ``user@domain`` where there is an extension, ``user`` is the
    bare local part where the domain is the host's own, ``catchall`` is ``@domain``.
    """

    full: str
    plain: str
    user: str
    catchall: str

    def addresses(self) -> tuple[str, ...]:
        return (self.full, self.plain) if self.plain else (self.full,)

    def names(self) -> tuple[str, ...]:
        return tuple(key for key in (self.full, self.plain, self.user) if key)


@dataclass(frozen=True, slots=True)
class AddressRows:
    """What the tables have under an address's keys: key in lower case to destinations; NULL is ``""``."""

    virtual: Mapping[str, Sequence[str]]
    relocated: Mapping[str, Sequence[str]]
    transport: Mapping[str, Sequence[str]]
    accounts: Mapping[str, Account]


@dataclass(frozen=True, slots=True)
class DomainRows:
    """What the tables have about a domain: whether ``virtual`` has a bare row, and its ``transport`` rows."""

    has_bare_row: bool
    transport: Mapping[str, Sequence[str]]


class Lookups(Protocol):
    """A database with the five tables. Raises ``TryLater`` where it can't answer."""

    async def address(self, keys: Keys) -> AddressRows:
        """Rows of ``virtual``, ``relocated``, ``transport`` and ``users`` for ``keys``."""
        ...

    async def domain(self, names: Sequence[str]) -> DomainRows:
        """Rows for ``names``: the domain itself, then each ``.parent``, then ``*``."""
        ...

    async def local_alias(self, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Rows of ``alias`` for ``names``."""
        ...
