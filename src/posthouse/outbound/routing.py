"""Where mail for a next hop goes: hosts in order of preference, each address of each.

RFC 5321 §5.1 (MX, its fallback to addresses), RFC 7505 (null MX). What can't be decided now is ``TryLater``,
what leads nowhere is ``Refused``.
"""

import asyncio
import ipaddress
import itertools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.runtime.resolver import (
    Answers,
    NoAnswer,
    NoSuchName,
    Resolver,
    ResolverError,
    ResolverTryLater,
    is_secure,
)

HOST_LIMIT = 20
"""Most MX hosts that are looked at; who publishes a thousand gets no thousand look-ups."""
TARGET_LIMIT = 10
"""Most addresses that one attempt tries."""

ADDRESS_LIMIT = 100
"""Most addresses of one host that are looked at."""
HOST_SHARE = 6
"""Most addresses of one host that one attempt tries, of both families: the next host has its turn too."""

T = TypeVar("T")
_shuffle = random.SystemRandom().shuffle
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*\Z")
"""A name that a host can have; anything else in an MX record is nobody."""


@dataclass(frozen=True, slots=True)
class NextHop:
    """``port`` 0: the protocol's own. ``is_literal``: the host itself, no MX look-up."""

    host: str
    port: int
    is_literal: bool


@dataclass(frozen=True, slots=True)
class Target:
    """One address to connect to. ``host`` is its name, for the log, reports and TLS.

    ``is_mx_secure``: that mail goes to this name is validated (or was never asked), ``is_secure``: so is its address,
    found at ``canonical``. ``preference`` is the MX record's.
    """

    host: str
    address: str
    port: int
    preference: int = 0
    is_mx_secure: bool = False
    is_secure: bool = False
    canonical: str = ""


@dataclass(frozen=True, slots=True)
class OwnHost:
    """What is us: mail must not be sent there because an MX record says so."""

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    bogus: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Where no host of others is: what an MX record says of these is not listened to."""

    @property
    def without_addresses(self) -> "OwnHost":
        """For a relayhost: an operator may have it anywhere, on another port of this machine too."""
        return OwnHost(self.names)


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
        targets = await _targets(domain, [(0, domain)], resolver, port)
        # Nobody had to be asked that mail goes to this name: who configured it has said so.
        return [replace(target, is_mx_secure=True) for target in _few(targets)]
    hosts, is_mx_secure = await _mail_exchangers(domain, resolver)
    hosts = _before_ourselves(domain, hosts, lambda host: host in own.names)
    targets = await _targets(domain, hosts, resolver, port)
    real = [target for target in targets if not _is_within(target.address, own.bogus)]
    if not real:
        raise Refused(Reply(550, "5.4.4", f"The mail hosts of {domain} are at addresses where no mail can go"))
    ranked = [(target.preference, target) for target in real]
    ranked = _before_ourselves(domain, ranked, lambda target: target.address in own.addresses)
    return [replace(target, is_mx_secure=is_mx_secure) for target in _few([target for _, target in ranked])]


async def _mail_exchangers(domain: str, resolver: Resolver) -> tuple[list[tuple[int, str]], bool]:
    """MX hosts by preference, equal ones in random order; the domain itself where it has none. And whether all that
    is validated."""
    try:
        records = await resolver.mx(domain)
    except NoAnswer as nothing:
        return [(0, domain)], nothing.is_secure
    except NoSuchName:
        raise Refused(Reply(550, "5.1.2", f"The domain {domain} does not exist")) from None
    except ResolverTryLater as failure:
        raise TryLater(str(failure), Reply(451, "4.4.3", f"MX look-up for {domain} failed for now")) from None
    hosts = [record for record in records if record[1]]
    if not hosts:
        raise Refused(Reply(556, "5.1.10", f"The domain {domain} accepts no mail (null MX)"))
    _shuffle(hosts)
    hosts.sort(key=lambda record: record[0])
    return hosts[:HOST_LIMIT], is_secure(records)


async def _targets(domain: str, hosts: Sequence[tuple[int, str]], resolver: Resolver, port: int) -> list[Target]:
    """The addresses of these hosts; hosts without any are passed over."""
    hosts = [(preference, host) for preference, host in hosts if _HOST.match(host) and len(host) < 254]
    found = await asyncio.gather(*[resolver.addresses(host) for _, host in hosts], return_exceptions=True)
    targets: list[Target] = []
    doubt: ResolverTryLater | None = None
    for (preference, host), addresses in zip(hosts, found, strict=True):
        if isinstance(addresses, ResolverTryLater):
            doubt = addresses
        elif not isinstance(addresses, BaseException):
            canonical = addresses.name if isinstance(addresses, Answers) else ""
            targets += [
                Target(host, address, port, preference, is_secure=is_secure(addresses), canonical=canonical)
                for address in _mixed(addresses, ADDRESS_LIMIT)
            ]
        elif not isinstance(addresses, ResolverError):
            raise addresses
    if targets:
        return targets
    if doubt is not None:
        raise TryLater(str(doubt), Reply(451, "4.4.3", f"Address look-up for {domain} failed for now"))
    raise Refused(Reply(550, "5.4.4", f"No mail host of {domain} has an address"))


def _few(targets: Sequence[Target]) -> list[Target]:
    """Those that one attempt tries."""
    tried: list[Target] = []
    for _, group in itertools.groupby(targets, lambda target: target.host):
        same = list(group)
        chosen = set(_mixed([target.address for target in same], HOST_SHARE))
        tried += [target for target in same if target.address in chosen]
    return tried[:TARGET_LIMIT]


def _mixed(addresses: Sequence[str], limit: int) -> list[str]:
    """As many of these, IPv6 first, and none of one family for want of the other."""
    if len(addresses) <= limit:
        return list(addresses)
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    six = six[: max(limit // 2, limit - len(four))]
    return six + four[: limit - len(six)]


def _before_ourselves(
    domain: str, ranked: Sequence[tuple[int, T]], is_own: Callable[[T], bool]
) -> list[tuple[int, T]]:
    """Only what is better than we are; sending to equals or worse makes loops. RFC 5321 §5.1."""
    ours = min([preference for preference, one in ranked if is_own(one)], default=None)
    better = [one for one in ranked if ours is None or one[0] < ours]
    if not better:
        raise Refused(Reply(554, "5.4.6", f"Mail for {domain} loops back to this host, which does not host it"))
    return better


def _is_within(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0]) if networks else None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip is not None and any(ip in network for network in networks)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
