"""The SMTP courier: to a destination's hosts in their order, each as securely as its domain asks, and with TLS
wherever it can be had (RFC 7435)."""

import asyncio
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from posthouse.base.errors import Refused, Reply
from posthouse.config.destinations import Destination, rules_for
from posthouse.mailqueue.courier import Outcome
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.envelope import Recipient
from posthouse.outbound.delivery import SessionCourier, first_available
from posthouse.outbound.pool import Use
from posthouse.outbound.relay import Relay
from posthouse.outbound.routing import NOBODY, OwnHost, Target, find_targets, parse_nexthop
from posthouse.outbound.security import ENCRYPTION_NEEDED, Level, Securing, Security
from posthouse.outbound.session import (
    DEFAULT_TIMEOUTS,
    HostUnavailableError,
    Session,
    Timeouts,
    TlsFailedError,
)
from posthouse.outbound.tlsresults import TlsResults
from posthouse.protocols.smtp.client import SmtpClientEngine
from posthouse.protocols.smtp.transaction import REQUIRETLS_NEEDED
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log
from posthouse.runtime.measures import TLS_SESSIONS
from posthouse.runtime.resolver import Resolver

REMEMBERED = 1000
"""Hosts that offer CHUNKING and don't know BDAT; they get their mail by DATA at the next attempt."""


class SmtpCourier(SessionCourier):
    """Destinations are domains, or next hops as ``routing.parse_nexthop`` reads them."""

    def __init__(
        self,
        hostname: str,
        resolver: Resolver,
        *,
        own: OwnHost = NOBODY,
        port: int = 25,
        tls: ssl.SSLContext | None = None,
        securing: Securing | None = None,
        relays: Mapping[str, Relay] | None = None,
        source_addresses: Sequence[str] = (),
        destinations: Mapping[str, Destination] | None = None,
        results: TlsResults | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        idle_seconds: float = 2.0,
        idle_limit: int = 50,
    ) -> None:
        """``own`` is where MX records must not lead. ``securing`` says how hosts are talked to; without it, it is
        ``tls`` with whoever has it, and without that everything goes in clear. ``relays``: the destinations that
        are relayhosts. ``source_addresses``: where our
        connections come from, in turn. ``results``: where the fate of TLS is counted."""
        super().__init__(hostname, resolver, timeouts=timeouts, idle_seconds=idle_seconds, idle_limit=idle_limit)
        self._own = own
        self._port = port
        self._securing = securing or Securing(tls)
        self._relays = relays or {}
        self._sources = tuple(source_addresses)
        self._destinations = destinations or {}
        self._results = results
        self._without_bdat: dict[str, None] = {}

    async def close(self) -> None:
        """End the idle sessions, and write what is counted."""
        await super().close()
        if self._results is not None:
            await self._results.close()

    async def _open(self, destination: str, level: Level) -> Session:
        relay = self._relays.get(destination)
        rules = rules_for(destination, self._destinations)
        if level != "requiretls":
            level = cast("Level", rules.tls) or level
        try:
            nexthop = parse_nexthop(relay.destination if relay else destination)
        except ValueError as error:
            raise Refused(Reply(550, "5.1.2", f"No mail goes to {destination!a}"), str(error)) from None
        sources = rules.source_addresses or self._sources
        if relay is not None:
            own = self._own.without_addresses
            targets = await find_targets(nexthop, self._resolver, port=self._port, own=own)
            domain = nexthop.host
            return await first_available(
                targets, lambda target: self._open_relay(target, domain, relay, level, sources)
            )
        targets = await find_targets(nexthop, self._resolver, port=self._port, own=self._own)
        policy = None if nexthop.is_literal else await self._securing.policy(nexthop.host, level)

        async def open_at(target: Target) -> Session:
            security = await self._securing.of(target, nexthop.host, policy, level)
            return await self._secured(target, security, sources, "" if level else nexthop.host)

        return await first_available(targets, open_at)

    async def _send(
        self, session: Session, message: QueuedMessage, recipients: Sequence[Recipient], use: Use
    ) -> list[Outcome]:
        outcomes = await super()._send(session, message, recipients, use)
        if session.lacks_bdat:
            log.warning("bdat-not-known", host=session.host)
            if len(self._without_bdat) >= REMEMBERED:
                del self._without_bdat[next(iter(self._without_bdat))]
            self._without_bdat[session.host] = None
        return outcomes

    async def _open_relay(
        self, target: Target, domain: str, relay: Relay, level: Level, sources: Sequence[str]
    ) -> Session:
        security = relay.security(target, domain)
        if security is None or level == "requiretls":
            asked = await self._securing.of(target, domain, None, level)
            # The message asks who says that this is the host; the login has its own authorities.
            security = asked if security is None else replace(security, is_final=True)
        session = await self._secured(target, security, sources)
        try:
            await relay.log_in(session, target)
        except BaseException:
            session.abort()
            raise
        return session

    async def _secured(self, target: Target, security: Security, sources: Sequence[str], domain: str = "") -> Session:
        """With this security, or with what may be tried instead. Counted where it is for a ``domain``."""
        while True:
            try:
                session = await self._session(target, security, sources)
                if security.is_final and not session.offers_requiretls:
                    await session.quit()
                    raise HostUnavailableError(REQUIRETLS_NEEDED, target.host)
                self._count(domain, target, security, "successful" if session.is_tls else "starttls-not-supported")
                return session
            except TlsFailedError as failure:
                self._count(domain, target, security, failure.result)
                facts = {"host": target.host, "address": target.address, "error": str(failure)}
                if security.weaker is None:
                    log.warning("tls-failed", **facts, result=failure.result, policy=security.kind, why=security.why)
                    text = f"Cannot send to {target.host} securely ({security.why}): {failure}"
                    is_final = security.is_final and not failure.may_pass
                    reply = Reply(550, ENCRYPTION_NEEDED, text) if is_final else Reply(451, "4.7.5", text)
                    raise HostUnavailableError(reply) from failure
                log.info("tls-failed", **facts, result=failure.result, policy=security.kind)
                security = security.weaker

    def _count(self, domain: str, target: Target, security: Security, result: str) -> None:
        if domain and security.context is not None:
            TLS_SESSIONS.add(security.policy_type, result)
        # What goes in clear after TLS has failed is not another session of the report's.
        if self._results is not None and domain and security.context is not None:
            self._results.count(domain, security.policy_type, target.host, result)

    async def _session(self, target: Target, security: Security, sources: Sequence[str]) -> Session:
        # One of our addresses of the same family, if any are given.
        fitting = [source for source in sources if (":" in source) == (":" in target.address)]
        source = (random.choice(fitting), 0) if fitting else None  # noqa: S311 - no secret
        connecting = asyncio.get_running_loop().create_connection(
            Connection, target.address, target.port, local_addr=source
        )
        engine = SmtpClientEngine(self._hostname, chunking=target.host not in self._without_bdat)
        return await Session.open(connecting, engine, target.host, self._timeouts, security)
