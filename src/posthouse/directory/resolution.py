"""What becomes of mail for an address, by steps 1 to 6 over the five tables; ``expansion`` walks through them."""

from dataclasses import dataclass
from functools import lru_cache

from posthouse.base.errors import PosthouseError, Refused, TryLater
from posthouse.directory import transports
from posthouse.directory.expansion import Expansion, local_keys
from posthouse.directory.host import Host, ThisHost
from posthouse.directory.lookups import BrokenAliases, BrokenRow, Keys, Lookups, NoAnswer, TooManyRows
from posthouse.directory.model import Explanation, Resolution
from posthouse.directory.transports import Site
from posthouse.message.address import split, split_extension

__all__ = ["BrokenAliases", "BrokenRow", "Outcome", "Resolver", "Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about resolving."""

    hostname: str
    delimiter: str = "+"
    catchall_first: bool = False
    minimum_uid: int = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an address: ``TryLater`` where the rows are wrong, which they are until somebody mends them.

    ``asked_host``: it depends on more than the tables.
    """

    result: Resolution | Refused | TryLater
    asked_host: bool


class Resolver:
    """Resolves by the rows that ``lookups`` finds."""

    def __init__(self, lookups: Lookups, rules: Rules, host: Host | None = None) -> None:
        self.lookups = lookups
        self.rules = rules
        self.host = host or ThisHost()
        self.own_names = frozenset({rules.hostname.lower(), "localhost"})

    async def resolve(self, address: str) -> Resolution:
        """Where mail for ``address`` goes. Raises ``Refused`` or ``TryLater``."""
        return await self._run(Expansion(self), address)

    async def outcome(self, address: str) -> Outcome:
        """The same, to be kept. Raises ``NoAnswer``."""
        expansion = Expansion(self)
        try:
            return Outcome(await self._run(expansion, address), expansion.asked_host)
        except Refused as error:
            return Outcome(Refused(error.reply, error.reason), expansion.asked_host)
        except (BrokenAliases, BrokenRow, TooManyRows) as error:
            return Outcome(TryLater(error.reason), expansion.asked_host)

    async def explain(self, address: str) -> Explanation:
        """The same, with every step; what would be raised is in it."""
        expansion = Expansion(self)
        try:
            resolution = await self._run(expansion, address)
        except PosthouseError as error:
            return Explanation(tuple(expansion.steps), None, error)
        return Explanation(tuple(expansion.steps), resolution, None)

    async def _run(self, expansion: Expansion, address: str) -> Resolution:
        try:
            return await expansion.run(address)
        except BrokenRow as error:
            try:
                ids = await self.lookups.ids(error.table, error.key)
            except NoAnswer:
                ids = ""
            raise BrokenRow(error.table, error.key, error.text, ids) from error

    async def site(self, domain: str) -> Site:
        """What ``domain`` is to this host."""
        names = _domain_names(domain)
        return transports.site(names, await self.lookups.find((Keys(names=names),)), self.own_names)

    def qualified(self, address: str) -> str:
        """``address`` with a domain: without one it means the host's own."""
        return address if "@" in address else f"{address}@{self.rules.hostname}"

    def keys(self, key: str) -> Keys:
        """The keys under which tables may have the address whose look-up key is ``key``."""
        local, domain = split(key)
        user, extension = split_extension(local, self.rules.delimiter)
        is_own = domain in self.own_names
        return Keys(
            full=key,
            plain=f"{user}@{domain}" if extension is not None else "",
            user=user if is_own else "",
            catchall=f"@{domain}",
            names=_domain_names(domain),
            locals=local_keys((local,) if extension is None else (local, user)) if is_own else (),
        )


_domain_names = lru_cache(4_096)(transports.domain_names)
