"""The LMTP courier (RFC 2033): to another program's mailboxes, ``unix:/path`` or ``inet:host:port``."""

import asyncio
from dataclasses import replace

from posthouse.base.errors import Refused, Reply
from posthouse.outbound.delivery import SessionCourier, first_available
from posthouse.outbound.routing import Target, find_targets, parse_nexthop
from posthouse.outbound.security import Level
from posthouse.outbound.session import Session
from posthouse.protocols.smtp.client import SmtpClientEngine
from posthouse.runtime.connection import Connection

PORT = 24


class LmtpCourier(SessionCourier):
    """Destinations are next hops as in the ``transport`` table; there are no MX look-ups and no TLS."""

    async def _open(self, destination: str, level: Level) -> Session:  # noqa: ARG002 - it has no TLS
        if destination.startswith("unix:"):
            return await self._open_at(destination.removeprefix("unix:"))
        try:
            nexthop = replace(parse_nexthop(destination.removeprefix("inet:")), is_literal=True)
        except ValueError as error:
            raise Refused(Reply(550, "5.3.5", f"{destination!a} is no LMTP server"), str(error)) from None
        return await first_available(await find_targets(nexthop, self._resolver, port=PORT), self._open_at)

    async def _open_at(self, to: Target | str) -> Session:
        loop = asyncio.get_running_loop()
        if isinstance(to, str):
            connecting, host = loop.create_unix_connection(Connection, to), "localhost"
        else:
            connecting, host = loop.create_connection(Connection, to.address, to.port), to.host
        return await Session.open(connecting, SmtpClientEngine(self._hostname, lmtp=True), host, self._timeouts)
