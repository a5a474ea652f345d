"""What the SMTP and LMTP couriers have in common: sessions used again, transactions of a decent size."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from posthouse.base.errors import PosthouseError, Refused, Reply
from posthouse.mailqueue.courier import Deferred, Failed, Outcome
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.envelope import Recipient
from posthouse.outbound.pool import Pool, Use
from posthouse.outbound.routing import Target
from posthouse.outbound.security import Level
from posthouse.outbound.session import DEFAULT_TIMEOUTS, HostUnavailableError, Session, Timeouts
from posthouse.runtime.log import log
from posthouse.runtime.resolver import Resolver

RECIPIENTS_PER_TRANSACTION = 100
"""What every server must take. RFC 5321 §4.5.3.1.8."""

_LEVELS: dict[str, Level] = {"": "", "REQUIRED": "requiretls", "OPTIONAL": "may"}
"""What a message asks for, by ``Envelope.tls``."""


class SessionCourier(ABC):
    """A courier that delivers over sessions; how one is opened is its own affair."""

    def __init__(
        self,
        hostname: str,
        resolver: Resolver,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        idle_seconds: float = 2.0,
        idle_limit: int = 50,
    ) -> None:
        """``hostname`` is what EHLO says; at most ``idle_limit`` sessions wait ``idle_seconds`` for more to do."""
        self._hostname = hostname
        self._resolver = resolver
        self._timeouts = timeouts
        self._pool = Pool(idle_seconds=idle_seconds, limit=idle_limit)

    async def deliver(
        self, message: QueuedMessage, recipients: Sequence[Recipient], destination: str
    ) -> list[Outcome]:
        """See ``Courier``."""
        outcomes: list[Outcome] = []
        for start in range(0, len(recipients), RECIPIENTS_PER_TRANSACTION):
            batch = recipients[start : start + RECIPIENTS_PER_TRANSACTION]
            try:
                outcomes += await self._deliver(message, batch, destination)
            except PosthouseError as error:
                if not outcomes:
                    raise
                # It must not count for those who have the message by now.
                outcome = Failed if isinstance(error, Refused) else Deferred
                outcomes += [outcome(error.reply)] * len(batch)
        return outcomes

    async def probe(self, address: str, destination: str) -> Reply:
        """What the destination says to that recipient of mail from nobody, in a session of its own.

        Raises ``HostUnavailableError``, ``Refused``, ``TryLater``.
        """
        session = await self._open(destination, "")
        try:
            return await session.probe(address)
        finally:
            await session.quit()

    async def close(self) -> None:
        """End the idle sessions."""
        await self._pool.close()

    @abstractmethod
    async def _open(self, destination: str, level: Level) -> Session:
        """A session that is ready, protected as ``level`` says where there is TLS at all.

        Raises ``HostUnavailableError``, ``Refused``, ``TryLater``.
        """

    async def _deliver(
        self, message: QueuedMessage, recipients: Sequence[Recipient], destination: str
    ) -> list[Outcome]:
        level = _LEVELS[message.envelope.tls]
        session = self._pool.take((destination, level))
        if session is not None:
            outcomes = await self._send(session, message, recipients, (destination, level))
            # A server may end an idle session at any time; that says nothing about this message.
            if session.is_usable or session.has_sent_body or not all(isinstance(one, Deferred) for one in outcomes):
                return outcomes
        try:
            session = await self._open(destination, level)
        except HostUnavailableError as failure:
            reply = failure.reply
            if reply.is_permanent_failure:
                return [Failed(reply, failure.host)] * len(recipients)
            return [Deferred(reply, failure.host, unreachable=True)] * len(recipients)
        return await self._send(session, message, recipients, (destination, level))

    async def _send(
        self, session: Session, message: QueuedMessage, recipients: Sequence[Recipient], use: Use
    ) -> list[Outcome]:
        try:
            outcomes = await session.send(message, recipients)
        except BaseException:
            session.abort()
            raise
        self._pool.give(use, session)
        return outcomes


async def first_available(targets: Sequence[Target], open_at: Callable[[Target], Awaitable[Session]]) -> Session:
    """A session with the first host that serves us. Raises ``HostUnavailableError``."""
    failures: list[HostUnavailableError] = []
    for target in targets:
        try:
            return await open_at(target)
        except HostUnavailableError as failure:
            log.info("host-unavailable", host=target.host, address=target.address, reply=str(failure.reply))
            failures.append(failure)
    # One host that may serve us later is enough for hope.
    raise next((failure for failure in failures if not failure.reply.is_permanent_failure), failures[-1])
