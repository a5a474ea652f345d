"""Where mail for a destination would go now, and how it would be protected: what the SMTP courier does, without
connecting to anybody."""

from dataclasses import dataclass

from posthouse.base.errors import PosthouseError
from posthouse.outbound.mtasts import Policy
from posthouse.outbound.relay import Relay
from posthouse.outbound.routing import NextHop, OwnHost, Target, find_targets, parse_nexthop
from posthouse.outbound.security import Level, Securing
from posthouse.outbound.session import HostUnavailableError
from posthouse.runtime.resolver import Resolver


@dataclass(frozen=True, slots=True)
class Way:
    """One address that would be tried. ``security`` is ``security.Kind``, or ``none``: it would be sent nothing;
    ``why`` says why. ``is_secure``: the DNS has vouched for all that leads there."""

    preference: int
    host: str
    address: str
    port: int
    security: str
    why: str
    is_secure: bool


@dataclass(frozen=True, slots=True)
class Ways:
    """All of them in order; or ``trouble``, the reply that would be given. ``found_by``: ``relayhost``,
    ``relays.NAME``, ``next hop`` or ``MX``. At most ``connections`` at once and ``messages_per_minute`` (0: any),
    from ``source_addresses`` (empty: as the system chooses)."""

    destination: str
    found_by: str
    policy: str
    ways: tuple[Way, ...]
    trouble: str = ""
    connections: int = 0
    messages_per_minute: int = 0
    source_addresses: tuple[str, ...] = ()


async def find_ways(
    destination: str,
    resolver: Resolver,
    *,
    own: OwnHost,
    securing: Securing,
    relay: Relay | None,
    port: int = 25,
    level: Level = "",
) -> Ways:
    """``relay``: where the destination is a relayhost. ``level``: what is set for it.

    Never raises for what the DNS says.
    """
    found_by = relay.setting if relay else "MX"
    try:
        nexthop = parse_nexthop(relay.destination if relay else destination)
        if nexthop.is_literal and not relay:
            found_by = "next hop"
        targets = await find_targets(nexthop, resolver, port=port, own=own.without_addresses if relay else own)
    except PosthouseError as error:
        return Ways(destination, found_by, "", (), str(error.reply))
    except ValueError as error:
        return Ways(destination, found_by, "", (), str(error))
    policy = None if relay or nexthop.is_literal else await securing.policy(nexthop.host, level)
    ways = [await _way(target, nexthop, policy, securing, relay, level) for target in targets]
    text = f"{policy.mode}, id {policy.id}, for {' '.join(policy.mx)}" if policy else ""
    return Ways(destination, found_by, text, tuple(ways))


async def _way(
    target: Target, nexthop: NextHop, policy: Policy | None, securing: Securing, relay: Relay | None, level: Level
) -> Way:
    try:
        security = relay.security(target, nexthop.host) if relay is not None else None
        security = security or await securing.of(target, nexthop.host, policy, level)
        kind, why = security.kind, security.why
    except HostUnavailableError as failure:
        kind, why = "none", failure.reply.text
    is_secure = target.is_mx_secure and target.is_secure
    return Way(target.preference, target.host, target.address, target.port, kind, why, is_secure)
