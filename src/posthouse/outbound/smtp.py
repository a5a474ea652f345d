"""The SMTP courier: to a destination's hosts in their order, with TLS wherever it can be had (RFC 7435)."""

import asyncio
import ssl

from posthouse.base.errors import Refused, Reply
from posthouse.outbound.delivery import SessionCourier, first_available
from posthouse.outbound.routing import NOBODY, OwnHost, Target, find_targets, parse_nexthop
from posthouse.outbound.session import DEFAULT_TIMEOUTS, Session, Timeouts, TlsFailedError
from posthouse.protocols.smtp.client import SmtpClientEngine
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log
from posthouse.runtime.resolver import Resolver


def opportunistic_tls() -> ssl.SSLContext:
    """TLS with whoever offers it: without a policy that says more, any certificate is better than none."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


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
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        idle_seconds: float = 2.0,
        idle_limit: int = 50,
    ) -> None:
        """``own`` is where MX records must not lead; without ``tls`` everything goes in clear."""
        super().__init__(hostname, resolver, timeouts=timeouts, idle_seconds=idle_seconds, idle_limit=idle_limit)
        self._own = own
        self._port = port
        self._tls = tls

    async def _open(self, destination: str) -> Session:
        try:
            nexthop = parse_nexthop(destination)
        except ValueError as error:
            raise Refused(Reply(550, "5.1.2", f"No mail goes to {destination!a}"), str(error)) from None
        targets = await find_targets(nexthop, self._resolver, port=self._port, own=self._own)
        return await first_available(targets, self._open_at)

    async def _open_at(self, target: Target) -> Session:
        try:
            return await self._session(target, self._tls)
        except TlsFailedError as failure:
            log.info("tls-failed", host=target.host, address=target.address, error=str(failure))
            return await self._session(target, None)

    async def _session(self, target: Target, tls: ssl.SSLContext | None) -> Session:
        connecting = asyncio.get_running_loop().create_connection(Connection, target.address, target.port)
        return await Session.open(connecting, SmtpClientEngine(self._hostname), target.host, self._timeouts, tls)
