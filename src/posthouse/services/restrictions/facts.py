"""What the restrictions look at: one attempt to hand in mail, and what is found out about it when it is asked for."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from posthouse.base.errors import Refused
from posthouse.directory.directory import Directory
from posthouse.directory.model import Resolution
from posthouse.message.address import split
from posthouse.runtime.resolver import NoAnswer, NoSuchName, Resolver, ResolverError, ResolverTryLater
from posthouse.services.restrictions.dnslists import DnsLists

UNKNOWN = "unknown"
_MAX_KNOWN = 500


@dataclass(frozen=True, slots=True)
class Names:
    """A client's names: what its address claims, and that again where the name says so too; empty: none.

    ``is_uncertain``: the DNS could not be asked, now.
    """

    reverse: str = ""
    verified: str = ""
    is_uncertain: bool = False


@dataclass(slots=True)
class Facts:
    """``client``: an IP address or ``unix``; ``known``: what this session has found out so far.

    ``recipient`` is empty at DATA where there are several. ``has_run_ahead``: the client has sent what it may not
    send yet. ``name`` is given where somebody trustworthy has told the client's name.
    """

    client: str
    directory: Directory
    resolver: Resolver
    dns_lists: DnsLists
    helo: str = ""
    sender: str = ""
    recipient: str = ""
    login: str = ""
    is_trusted: bool = False
    is_submission: bool = False
    tls: str = ""
    size_bytes: int = 0
    recipients: int = 0
    instance: str = ""
    stage: str = "RCPT"
    has_run_ahead: bool = False
    name: str | None = None
    protocol: str = "ESMTP"
    known: dict[Any, Any] = field(default_factory=dict[Any, Any])

    @property
    def may_relay(self) -> bool:
        return bool(self.login) or self.is_trusted

    @property
    def sender_domain(self) -> str:
        return split(self.sender)[1]

    @property
    def recipient_domain(self) -> str:
        return split(self.recipient)[1]

    async def names(self) -> Names:
        """The client's names, unverified and verified."""
        if self.name is not None:
            return Names(self.name, self.name)
        return await self._once(("names", self.client), self._find_names)

    async def has_mail(self, domain: str) -> bool | None:
        """Whether mail can be sent there: by an MX, or an address. None: it says itself that it takes none.

        Raises ``ResolverTryLater``.
        """
        return await self._once(("mail", domain), lambda: self._find_mail(domain))

    async def exists(self, host: str) -> bool:
        """Whether a host of that name exists: it has an address or an MX. Raises ``ResolverTryLater``."""
        return await self._once(("host", host), lambda: self._find_host(host))

    async def resolution(self) -> Resolution:
        """Where the recipient's mail goes. Raises ``Refused`` and ``TryLater``."""
        return await self.directory.resolve(self.recipient)

    async def is_unlisted(self, address: str) -> Refused | None:
        """Why this address of ours takes no mail; None where it does, or where it isn't ours. Raises ``TryLater``."""
        domain = split(address)[1]
        if not domain or not await self.directory.is_hosted(domain):
            return None
        try:
            await self.directory.resolve(address)
        except Refused as error:
            return error
        return None

    async def _once(self, key: object, find: Callable[[], Awaitable[Any]]) -> Any:
        if key not in self.known:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            try:
                self.known[key] = await find()
            except ResolverTryLater as error:
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, ResolverError):
            raise found
        return found

    async def _find_names(self) -> Names:
        try:
            address = ipaddress.ip_address(self.client)
        except ValueError:
            return Names("localhost", "localhost")  # a Unix socket
        try:
            names = await self.resolver.ptr(self.client)
        except ResolverTryLater:
            return Names(is_uncertain=True)
        except ResolverError:
            return Names()
        reverse = names[0] if names else ""
        try:
            addresses = await self.resolver.addresses(reverse) if reverse else []
        except ResolverTryLater:
            return Names(reverse, is_uncertain=True)
        except ResolverError:
            return Names(reverse)
        is_verified = address in [ipaddress.ip_address(one) for one in addresses]
        return Names(reverse, reverse if is_verified else "")

    async def _find_mail(self, domain: str) -> bool | None:
        try:
            exchangers = await self.resolver.mx(domain)
        except (NoSuchName, NoAnswer):
            return await self._has_address(domain)
        return None if exchangers and all(not host for _, host in exchangers) else True

    async def _find_host(self, host: str) -> bool:
        if await self._has_address(host):
            return True
        try:
            return bool(await self.resolver.mx(host))
        except (NoSuchName, NoAnswer):
            return False

    async def _has_address(self, host: str) -> bool:
        try:
            return bool(await self.resolver.addresses(host))
        except (NoSuchName, NoAnswer):
            return False
