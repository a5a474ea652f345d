"""DNS lists (RFC 5782): what they say about a client or a domain, remembered as long as they say.

Invariants:
  1. All lists that will be wanted are asked at once; the slowest one that doesn't answer costs its time limit once.
  2. A list that doesn't answer lists nobody, and isn't asked about the same name for a moment.
  3. What is remembered is bounded.
"""

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiodns import DNSResolver, error
from pycares import ARecordData, TXTRecordData

from posthouse.base.clock import Clock, SystemClock
from posthouse.config.restrictions import DnsList

MAX_REMEMBERED = 20_000
MAX_TTL_SECONDS = 3600.0
UNLISTED_SECONDS = 120.0
"""For how long it is believed that somebody is not listed: the answer that says so has no such time we could see."""
SILENT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list says: its answers and its text, or the ``trouble`` that kept it from saying anything."""

    answers: tuple[str, ...] = ()
    text: str = ""
    trouble: str = ""


class DnsLists:
    """The DNS lists of one process. ``nameservers``: ``host`` or ``host:port``; none: the system's."""

    def __init__(
        self, nameservers: Sequence[str] = (), *, timeout_seconds: float = 4.0, clock: Clock | None = None
    ) -> None:
        self._dns = DNSResolver(nameservers or None, timeout=timeout_seconds / 2, tries=2)
        self._timeout_seconds = timeout_seconds
        self._clock = clock or SystemClock()
        self._remembered: dict[str, tuple[float, Listing]] = {}
        self._asking: dict[str, asyncio.Task[Listing]] = {}

    async def close(self) -> None:
        for task in [*self._asking.values()]:
            task.cancel()
        await self._dns.close()

    async def ask(self, names: Iterable[str]) -> dict[str, Listing]:
        """What the lists say about these names, all asked at once."""
        wanted = list(dict.fromkeys(names))
        found = await asyncio.gather(*[self.listing(name) for name in wanted])
        return dict(zip(wanted, found, strict=True))

    async def listing(self, name: str) -> Listing:
        """What a list says about a name of it."""
        known = self._remembered.get(name)
        if known is not None and known[0] > self._clock.monotonic():
            return known[1]
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        # Whoever waits may give up; the others wait on.
        return await asyncio.shield(task)

    async def _ask(self, name: str) -> Listing:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                found = (await self._dns.query_dns(name, "A")).answer
                answers = tuple(one.data.addr for one in found if isinstance(one.data, ARecordData))
                ttl = min((float(record.ttl) for record in found), default=0.0)
                text = await self._text(name) if answers else ""
        except TimeoutError:
            return self._remember(name, SILENT_SECONDS, Listing(trouble="no answer in time"))
        except UnicodeError:
            return self._remember(name, UNLISTED_SECONDS, Listing())
        except error.DNSError as failure:
            if failure.args[0] in _UNLISTED:
                return self._remember(name, UNLISTED_SECONDS, Listing())
            return self._remember(name, SILENT_SECONDS, Listing(trouble=str(failure.args[-1])))
        return self._remember(name, min(ttl, MAX_TTL_SECONDS), Listing(answers, text))

    async def _text(self, name: str) -> str:
        """Why somebody is listed; a list need not say."""
        try:
            found = (await self._dns.query_dns(name, "TXT")).answer
        except error.DNSError:
            return ""
        texts = [record.data.data for record in found if isinstance(record.data, TXTRecordData)]
        return texts[0].decode("ascii", "replace")[:200] if texts else ""

    def _remember(self, name: str, seconds: float, listing: Listing) -> Listing:
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = (self._clock.monotonic() + seconds, listing)
        return listing


_UNLISTED = frozenset({error.ARES_ENOTFOUND, error.ARES_ENODATA, error.ARES_EBADNAME, error.ARES_ENONAME})


def address_name(address: str, site: str) -> str:
    """The name under which a list has an address (RFC 5782 §2.1 and §2.4); empty for what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    reversed_name = parsed.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
    return f"{reversed_name}.{site}"


def domain_name(domain: str, site: str) -> str:
    """The name under which a list has a domain; empty for an address literal or none."""
    return "" if not domain or domain.startswith("[") or len(domain) + len(site) > 252 else f"{domain}.{site}"


def hits(wanted: DnsList, listing: Listing) -> list[str]:
    """The answers that count."""
    return [answer for answer in listing.answers if answer.count(".") == 3 and wanted.matches(answer)]
