"""Step 3: the ``transport`` table, and what it makes of a domain.

Invariants:
  1. The host's own names are always local.
  2. A ``*`` row routes, but neither makes a domain hosted nor permits relaying to it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.directory.lookups import Rows
from posthouse.message.address import MAX_DOMAIN

_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)", re.ASCII)
_UNPRINTABLE = re.compile(r"[^ -~]+")
TO_HOSTS = frozenset({"smtp", "relay", "lmtp"})
_NOT_HOSTING = TO_HOSTS | {"error", "retry", "discard"}


@dataclass(frozen=True, slots=True)
class Route:
    """A transport and where it leads. ``row`` is the key of the row that says so, or empty: the default."""

    transport: str
    nexthop: str
    row: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """What a domain is to this host.

    ``handed_on``: a row of its own gives it to another host, so anybody may send to it through us. ``is_disabled``:
    the operator has turned it off.
    """

    is_own: bool
    is_hosted: bool
    handed_on: bool
    route: Route
    is_disabled: bool = False


def domain_names(domain: str) -> tuple[str, ...]:
    """Where ``transport`` may have a domain: itself, ``.parent.domain`` up to the top, ``*``."""
    if len(domain) > MAX_DOMAIN:
        return domain, "*"  # nobody's, and its parents could be thousands
    labels = domain.split(".")
    return domain, *("." + ".".join(labels[i:]) for i in range(1, len(labels))), "*"


def site(names: Sequence[str], rows: Rows, own_names: frozenset[str]) -> Site:
    """What the domain whose ``domain_names`` these are is to this host."""
    domain = names[0]
    is_disabled = domain in rows.disabled
    if domain in own_names:
        return Site(True, True, False, Route("local", ""), is_disabled)
    has_bare_row = domain in rows.virtual
    default = Route("virtual" if has_bare_row else "smtp", "")
    if not rows.transport:
        return Site(False, has_bare_row, False, default, is_disabled)
    route = find(names, rows.transport, default)
    if route.row == "*":
        return Site(False, has_bare_row, False, default if has_bare_row else route, is_disabled)
    hosted = has_bare_row or (bool(route.row) and route.transport not in _NOT_HOSTING)
    handed_on = _names_transport(rows.transport.get(route.row)) and not hosted
    return Site(False, hosted, handed_on, route, is_disabled)


def find(names: Sequence[str], rows: Mapping[str, Sequence[str]], default: Route) -> Route:
    """The route of the first of ``names`` that has a row; what the row leaves out is kept from ``default``."""
    for name in names:
        for value in rows.get(name, ()):
            transport, _, nexthop = value.strip().partition(":")
            if transport:
                return Route(transport.lower(), nexthop.strip(), name)
            return Route(default.transport, nexthop.strip() or default.nexthop, name)
    return default


def _names_transport(values: Sequence[str] | None) -> bool:
    return bool(values) and values[0].strip().partition(":")[0] != ""


def nexthop(route: Route, domain: str) -> str:
    """Where a route to a host leads; empty where nothing but the defaults decides."""
    hop = route.nexthop
    if route.transport == "lmtp" and hop.startswith("inet:"):
        hop = hop[5:]
    return hop or (domain if route.row else "")


def refusal(route: Route) -> Refused | TryLater:
    """What ``error:`` and ``retry:`` say: a status (RFC 3463) and a text, both optional."""
    match = _STATUS.match(route.nexthop)
    text = printable(route.nexthop[match.end() :] if match else route.nexthop)
    reason = f"transport row {route.row}"
    if route.transport == "retry" or (match and match[1].startswith("4")):
        status = match[1] if match and match[1].startswith("4") else "4.0.0"
        return TryLater(reason, Reply(450, status, text or "This address is not served at the moment"))
    status = match[1] if match and match[1].startswith("5") else "5.0.0"
    return Refused(Reply(550, status, text or "This address is not served"), reason)


def printable(text: str) -> str:
    """A row's text as it may stand in a reply: one line of printable ASCII, not too long."""
    return _UNPRINTABLE.sub(" ", text).strip()[:300]
