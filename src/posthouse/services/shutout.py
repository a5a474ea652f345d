"""What the guard has counted, for the operator: who is shut out, and letting them in again."""

import os
import re
from contextlib import closing
from ipaddress import IPv4Network, IPv6Network, ip_network

from posthouse.message.address import is_domain, lookup_key
from posthouse.services.guard import is_current, units
from posthouse.services.guardfile import Counter, GuardFile

_LIKE_ADDRESS = re.compile(r".*[\s/:].*|[\d.]+")
"""No login, and no address either, such as 192.0.2.300 or 192.0.2.0/33."""


def listing(path: str, now: float) -> list[Counter]:
    """What counts at the moment: who is shut out first, then the most failures. Raises ``sqlite3.Error``."""
    if not os.path.exists(path):
        return []
    with closing(GuardFile(path)) as file:
        current = [one for one in file.all() if is_current(one, now)]
    return sorted(current, key=lambda one: (-one.blocked_until if one.is_blocked(now) else 0, -one.failures, one.key))


def clear(path: str, target: str | None) -> list[Counter]:
    """Forget the failures of an address, a network with all that is in it, an account; None: of everybody.

    What has been forgotten. Raises ``sqlite3.Error``.
    """
    if not os.path.exists(path):
        return []
    with closing(GuardFile(path)) as file:
        gone = [one for one in file.all() if target is None or _is_meant(one, target)]
        file.remove(one.key for one in gone)
    return gone


def containing(path: str, target: str, now: float) -> list[Counter]:
    """The networks that are shut out and have the address in them: who clears the address may mean those too."""
    network = _network(target)
    return [
        one
        for one in (listing(path, now) if network is not None else [])
        if one.kind == "n" and one.is_blocked(now) and _is_in(network, _network(one.name))
    ]


def is_name(target: str) -> bool:
    """Whether something is counted under such a name: an address, a network, or what somebody could log in with."""
    if _network(target) is not None:
        return True
    user, found, domain = target.rpartition("@")
    if found:
        return bool(user) and is_domain(lookup_key(target).rpartition("@")[2]) and domain.isprintable()
    return bool(target) and target.isprintable() and not _LIKE_ADDRESS.fullmatch(target)


def _is_meant(counter: Counter, target: str) -> bool:
    network = _network(target)
    if network is None:
        return counter.kind == "u" and counter.name == lookup_key(target)
    if counter.kind == "u":
        return False
    if counter.kind == "a" and network.num_addresses == 1:
        return counter.name == units(str(network.network_address))[0]
    return _is_in(_network(counter.name), network)


def _is_in(inner: IPv4Network | IPv6Network | None, outer: IPv4Network | IPv6Network | None) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
