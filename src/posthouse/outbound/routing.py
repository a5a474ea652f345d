"""Where mail for a next hop goes: hosts in order of preference, each address of each.

RFC 5321 §5.1 (MX, its fallback to addresses), RFC 7505 (null MX). What can't be decided now is ``TryLater``,
what leads nowhere is ``Refused``.
"""

import asyncio
import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.runtime.resolver import NoAnswer, NoSuchName, Resolver, ResolverError, ResolverTryLater

HOST_LIMIT = 20
"""Most MX hosts that are looked at; who publishes a thousand gets no thousand look-ups."""
TARGET_LIMIT = 10
"""Most addresses that one attempt tries."""

T = TypeVar("T")
_shuffle = random.SystemRandom().shuffle


@dataclass(frozen=True, slots=True)
class NextHop:
    """``port`` 0: the protocol's own. ``is_literal``: the host itself, no MX look-up."""

    host: str
    port: int
    is_literal: bool


@dataclass(frozen=True, slots=True)
class Target:
    """One address to connect to. ``host`` is its name, for the log, reports and TLS."""

    host: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class OwnHost:
    """What is us: mail must not be sent there because an MX record says so."""

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()


NOBODY = OwnHost()


def parse_nexthop(text: str) -> NextHop:
    """``host``, ``host:port``, ``[host]``, ``[host]:port``, also an address literal of a mail address.

    Raises ``ValueError``.
    """
    host, port = text, ""
    is_literal = text.startswith("[")
    if is_literal:
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r}: expected [host] or [host]:port")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: {port!r} is no port")
    host = host.lower().removeprefix("ipv6:").rstrip(".")
    if not host:
        raise ValueError(f"{text!r}: no host")
    return NextHop(host, int(port or 0), is_literal or _is_address(host))


async def find_targets(nexthop: NextHop, resolver: Resolver, *, port: int, own: OwnHost = NOBODY) -> list[Target]:
    """Whom to connect to, in order; never empty. Raises ``Refused``, ``TryLater``."""
    domain, port = nexthop.host, nexthop.port or port
    if _is_address(domain):
        return [Target(domain, domain, port)]
    if nexthop.is_literal:
        return [target for _, target in await _targets(domain, [(0, domain)], resolver, port)][:TARGET_LIMIT]
    hosts = await _mail_exchangers(domain, resolver)
    hosts = _before_ourselves(domain, hosts, lambda host: host in own.names)
    targets = await _targets(domain, hosts, resolver, port)
    targets = _before_ourselves(domain, targets, lambda target: target.address in own.addresses)
    return [target for _, target in targets[:TARGET_LIMIT]]


async def _mail_exchangers(domain: str, resolver: Resolver) -> list[tuple[int, str]]:
    """MX hosts by preference, equal ones in random order; the domain itself where it has none."""
    try:
        records = await resolver.mx(domain)
    except NoAnswer:
        return [(0, domain)]
    except NoSuchName:
        raise Refused(Reply(550, "5.1.2", f"The domain {domain} does not exist")) from None
    except ResolverTryLater as failure:
        raise TryLater(str(failure), Reply(451, "4.4.3", f"MX look-up for {domain} failed for now")) from None
    hosts = [record for record in records if record[1]]
    if not hosts:
        raise Refused(Reply(556, "5.1.10", f"The domain {domain} accepts no mail (null MX)"))
    _shuffle(hosts)
    hosts.sort(key=lambda record: record[0])
    return hosts[:HOST_LIMIT]


async def _targets(
    domain: str, hosts: Sequence[tuple[int, str]], resolver: Resolver, port: int
) -> list[tuple[int, Target]]:
    """The addresses of these hosts; hosts without any are passed over."""
    found = await asyncio.gather(*[resolver.addresses(host) for _, host in hosts], return_exceptions=True)
    targets: list[tuple[int, Target]] = []
    doubt: ResolverTryLater | None = None
    for (preference, host), addresses in zip(hosts, found, strict=True):
        if isinstance(addresses, ResolverTryLater):
            doubt = addresses
        elif not isinstance(addresses, BaseException):
            targets += [(preference, Target(host, address, port)) for address in addresses]
        elif not isinstance(addresses, ResolverError):
            raise addresses
    if targets:
        return targets
    if doubt is not None:
        raise TryLater(str(doubt), Reply(451, "4.4.3", f"Address look-up for {domain} failed for now"))
    raise Refused(Reply(550, "5.4.4", f"No mail host of {domain} has an address"))


def _before_ourselves(
    domain: str, ranked: Sequence[tuple[int, T]], is_own: Callable[[T], bool]
) -> list[tuple[int, T]]:
    """Only what is better than we are; sending to equals or worse makes loops. RFC 5321 §5.1."""
    ours = min([preference for preference, one in ranked if is_own(one)], default=None)
    better = [one for one in ranked if ours is None or one[0] < ours]
    if not better:
        raise Refused(Reply(554, "5.4.6", f"Mail for {domain} loops back to this host, which does not host it"))
    return better


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
