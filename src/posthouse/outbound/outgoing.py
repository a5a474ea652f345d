"""How this host sends, made from its settings: the SMTP courier, and what ``posthouse route`` asks."""

import ipaddress
from dataclasses import replace
from typing import cast

from posthouse.base.clock import Clock
from posthouse.base.errors import TryLater
from posthouse.config.destinations import rules_for
from posthouse.config.endpoints import parse_endpoint
from posthouse.config.relays import RelayHost
from posthouse.config.settings import Settings
from posthouse.outbound.mtasts import Policies
from posthouse.outbound.relay import Relay
from posthouse.outbound.routing import OwnHost
from posthouse.outbound.security import Level, Securing, opportunistic_tls, verifying_tls
from posthouse.outbound.smtp import SmtpCourier
from posthouse.outbound.tlsresults import TlsResults
from posthouse.outbound.ways import Ways, find_ways
from posthouse.runtime.nameservers import make_resolver
from posthouse.runtime.resolver import DnsResolver, Resolver

KEPT_POLICIES = "mta-sts"
"""Where MTA-STS policies are kept, below ``data_dir``."""
TLS_RESULTS = "tls-results.db"
"""Where the fate of TLS with others is counted, below ``data_dir``."""


def make_smtp_courier(settings: Settings, resolver: Resolver, clock: Clock) -> SmtpCourier:
    """Raises ``TryLater`` where a file that the settings name can't be read."""
    return SmtpCourier(
        settings.hostname,
        resolver,
        own=own_host(settings),
        securing=make_securing(settings, resolver, clock),
        relays=make_relays(settings),
        source_addresses=settings.smtp.source_addresses,
        destinations=settings.destinations,
        results=TlsResults(settings.path(TLS_RESULTS), clock),
    )


async def explain(destination: str, settings: Settings, clock: Clock) -> Ways:
    """What the courier that the settings make would do. Raises ``TryLater`` as ``make_smtp_courier`` does."""
    resolver = make_resolver(settings.dns)
    try:
        # Whoever types this need not be who serves: no file of the server's is written.
        securing = make_securing(settings, resolver, clock, may_write=False)
        own, relay = own_host(settings), make_relays(settings).get(destination)
        rules = rules_for(destination, settings.destinations)
        ways = await find_ways(
            destination, resolver, own=own, securing=securing, relay=relay, level=cast("Level", rules.tls)
        )
        queue, smtp = settings.queue, settings.smtp
        return replace(
            ways,
            connections=rules.connections or queue.connections_per_destination,
            messages_per_minute=rules.messages_per_minute or queue.messages_per_minute,
            source_addresses=rules.source_addresses or smtp.source_addresses,
        )
    finally:
        await resolver.close()


def make_securing(settings: Settings, resolver: Resolver, clock: Clock, *, may_write: bool = True) -> Securing:
    """DANE only by a resolver that validates, and MTA-STS, as far as they are turned on."""
    validating = None
    if settings.smtp.dane and not isinstance(resolver, DnsResolver):
        from posthouse.runtime.validating import ValidatingResolver  # is there already, or was never wanted

        validating = resolver if isinstance(resolver, ValidatingResolver) else None
    policies = None
    if settings.smtp.mta_sts:
        policies = Policies(settings.path(KEPT_POLICIES), resolver, clock, may_write=may_write)
    return Securing(opportunistic_tls(), validating=validating, policies=policies)


def make_relays(settings: Settings) -> dict[str, Relay]:
    """All relayhosts by the destination of routes that lead there. Raises ``TryLater``."""
    relays: dict[str, Relay] = {}
    for name, host in settings.relays.items():
        relay = _make_relay(settings, host, f"relays.{name}", f"relays.{name}.")
        relays[relay.route] = relay
    smtp = settings.smtp
    if smtp.relayhost:
        host = RelayHost(smtp.relayhost, (), smtp.relayhost_user, smtp.relayhost_password_file, smtp.relayhost_ca)
        relays[smtp.relayhost] = _make_relay(settings, host, "relayhost", "smtp.relayhost_")
    return relays


def _make_relay(settings: Settings, host: RelayHost, setting: str, prefix: str) -> Relay:
    if not host.user:
        return Relay(host.host, setting=setting, route=host.route)
    path = settings.path(host.password_file)
    try:
        with open(path, encoding="utf-8") as file:
            password = file.readline().rstrip("\r\n")
        tls = verifying_tls(settings.path(host.ca) if host.ca else "")
    except (OSError, UnicodeDecodeError) as error:
        raise TryLater(f"{prefix}password_file {path}, {prefix}ca: {error}") from error
    return Relay(host.host, host.user, password, tls, setting, host.route)


def own_host(settings: Settings) -> OwnHost:
    """What MX records must not send us back to."""
    listening = {parse_endpoint(address).host for address in settings.listen.smtp}
    if listening & {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        listening |= {"127.0.0.1", "::1"}
    bogus = tuple(ipaddress.ip_network(network) for network in settings.smtp.bogus_networks)
    return OwnHost(frozenset({settings.hostname.lower()}), frozenset(listening - {""}), bogus)
