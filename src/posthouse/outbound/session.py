"""One session with one server: the client engine on a connection, with RFC 5321's time limits.

Invariants:
  1. Every wait for the server has an end, however it drips.
  2. ``send`` has an outcome for each recipient whatever the server or the network does.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self

from posthouse.base.errors import Reply, TryLater
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Outcome
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.envelope import Recipient
from posthouse.outbound.request import make_request
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.sasl.client import ClientMechanism
from posthouse.protocols.smtp.client import SmtpClientEngine
from posthouse.protocols.smtp.client_events import (
    AuthChallenge,
    AuthDone,
    Broken,
    ClientEvent,
    Finished,
    Ready,
    RecipientReply,
    SendBody,
    TlsReady,
    TlsRefused,
    TransactionDone,
    TurnedAway,
)
from posthouse.protocols.smtp.transaction import SMTPUTF8_NEEDED, TransactionRequest
from posthouse.runtime.connection import Connection

CHUNK = 128 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. RFC 5321 §4.5.3.2; connecting and TLS as is usual."""

    connect: float = 30.0
    greeting: float = 300.0
    tls: float = 60.0
    command: float = 300.0
    block: float = 180.0
    message_end: float = 600.0
    quit: float = 5.0


DEFAULT_TIMEOUTS = Timeouts()


class HostUnavailableError(Exception):
    """This server won't or can't serve us now; another one of the destination may.

    ``host``: who said so in ``reply``; empty where those are our own words.
    """

    def __init__(self, reply: Reply, host: str = "") -> None:
        super().__init__(f"{host}: {reply}")
        self.reply = reply
        self.host = host


class TlsFailedError(Exception):
    """TLS was wanted and did not come about, or not with whom it should; the connection is of no use any more.

    ``result`` is the word of RFC 8460 §4.3 for it. ``may_pass``: it was the network or the server's mood.
    """

    def __init__(self, text: str, result: str = "validation-failure", *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.result = result
        self.may_pass = may_pass


class TlsDemand(Protocol):
    """What a session asks of TLS: ``security.Security``, or nothing."""

    @property
    def context(self) -> ssl.SSLContext | None: ...
    @property
    def server_name(self) -> str: ...
    @property
    def is_required(self) -> bool: ...
    def objection(self, chain: tuple[bytes, ...]) -> str: ...


_CERTIFICATE_TROUBLE = {
    10: "certificate-expired",
    18: "certificate-not-trusted",
    19: "certificate-not-trusted",
    20: "certificate-not-trusted",
    21: "certificate-not-trusted",
    62: "certificate-host-mismatch",
}
"""By OpenSSL's verification errors, in the words of RFC 8460 §4.3.2."""


class Session:
    """From the greeting to QUIT. ``host`` is the server's name for logs and reports."""

    __slots__ = ("_connection", "_engine", "_timeouts", "has_sent_body", "host", "transactions")

    def __init__(self, connection: Connection, engine: SmtpClientEngine, host: str, timeouts: Timeouts) -> None:
        self._connection = connection
        self._engine = engine
        self._timeouts = timeouts
        self.host = host
        self.transactions = 0
        self.has_sent_body = False
        """Whether the server has taken the last message's MAIL and got its content."""

    @classmethod
    async def open(
        cls,
        connecting: Awaitable[tuple[object, Connection]],
        engine: SmtpClientEngine,
        host: str,
        timeouts: Timeouts,
        tls: TlsDemand | None = None,
    ) -> Self:
        """Connect and get to where a transaction can begin, with TLS as ``tls`` asks for it.

        Raises ``HostUnavailableError``, and ``TlsFailedError``: a new connection may do with less, if that may be.
        """
        try:
            async with asyncio.timeout(timeouts.connect):
                _, connection = await connecting
        except OSError as failure:
            raise unreachable(host, explain(failure)) from failure
        session = cls(connection, engine, host, timeouts)
        try:
            await session._greet(tls)
        except BaseException:
            session.abort()
            raise
        return session

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may be tried."""
        return not self._engine.closed and not self._connection.is_lost

    async def send(self, message: QueuedMessage, recipients: Sequence[Recipient]) -> list[Outcome]:
        """One transaction; the session may be over after it. Raises ``TryLater`` when the message can't be read."""
        if "SMTPUTF8" in self._engine.capabilities or all(one.address.isascii() for one in recipients):
            return await self._send(message, recipients)
        # What one recipient's address needs is nothing to the others.
        others = [one for one in recipients if one.address.isascii()]
        outcomes = iter(await self._send(message, others) if others else ())
        return [next(outcomes) if one.address.isascii() else Failed(SMTPUTF8_NEEDED) for one in recipients]

    async def _send(self, message: QueuedMessage, recipients: Sequence[Recipient]) -> list[Outcome]:
        self.transactions += 1
        self.has_sent_body = False
        lacks_utf8 = "SMTPUTF8" not in self._engine.capabilities
        self._engine.send(make_request(message, recipients, lacks_utf8=lacks_utf8, is_lmtp=self._engine.lmtp))
        trouble = ""
        while True:
            try:
                event = await self._next(self._timeouts.message_end if self.has_sent_body else self._timeouts.command)
                if isinstance(event, SendBody):
                    await self._send_body(message)
                    self.has_sent_body = True
            except OSError as failure:
                trouble = trouble or explain(failure)
                await self._hear_last_words()
                continue
            assert event is not None, "the engine owes an outcome"
            if isinstance(event, TransactionDone):
                self.has_sent_body = self.has_sent_body and self._engine.mail_accepted
                return [self._outcome(reply, trouble) for reply in event.replies]

    @property
    def lacks_bdat(self) -> bool:
        """Whether it has turned out not to know BDAT, against what it says."""
        return self._engine.lacks_bdat

    async def probe(self, address: str) -> Reply:
        """What the server says to this recipient of a message from nobody that never comes.

        Raises ``HostUnavailableError``, also where it does not take MAIL.
        """
        self._engine.send(TransactionRequest("", (Recipient(address),), is_probe=True))
        said: Reply | None = None
        while True:
            try:
                event = await self._next(self._timeouts.command)
            except OSError as failure:
                raise unreachable(self.host, explain(failure)) from failure
            match event:
                case RecipientReply(_, reply):
                    said = reply
                case TransactionDone(replies):
                    if said is None:
                        raise HostUnavailableError(replies[0], self.host)
                    return said
                case _:
                    pass

    @property
    def offers_requiretls(self) -> bool:
        """Whether it promises to pass on only through TLS what asks for that (RFC 8689)."""
        return self.is_tls and "REQUIRETLS" in self._engine.capabilities

    @property
    def is_tls(self) -> bool:
        return self._connection.is_tls

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What AUTH can be done with."""
        return self._engine.capabilities.auth

    async def authenticate(self, name: str, mechanism: ClientMechanism) -> Reply:
        """Log in; the server's last word. Raises ``HostUnavailableError``."""
        self._engine.authenticate(name, mechanism.initial())
        while True:
            try:
                event = await self._next(self._timeouts.command)
            except OSError as failure:
                raise unreachable(self.host, explain(failure)) from failure
            match event:
                case AuthChallenge(data):
                    self._answer(mechanism, data)
                case AuthDone(reply):
                    if reply.is_success and not mechanism.is_complete:
                        return Reply(454, "4.7.0", "The server did not prove that it knows the password")
                    return reply
                case _:
                    raise unreachable(self.host, f"instead of a login: {event}")

    async def quit(self) -> None:
        """End it politely, and quickly."""
        try:
            if self.is_usable:
                self._engine.quit()
                while not isinstance(await self._next(self._timeouts.quit), Finished | Broken | TurnedAway):
                    pass
        except OSError:
            pass
        finally:
            self._connection.close()

    def abort(self) -> None:
        self._engine.receive(b"")
        self._connection.abort()

    def _answer(self, mechanism: ClientMechanism, challenge: bytes) -> None:
        try:
            response = mechanism.respond(challenge)
        except ValueError:
            self._engine.auth_cancel()
        else:
            self._engine.auth_response(response)

    async def _greet(self, tls: TlsDemand | None) -> None:
        await self._until_ready(self._timeouts.greeting)
        if tls is None or tls.context is None:
            return
        if "STARTTLS" in self._engine.capabilities:
            self._engine.starttls()
            await self._start_tls(tls, tls.context)
        elif tls.is_required:
            raise TlsFailedError("it does not offer STARTTLS", "starttls-not-supported")

    async def _next(self, seconds: float) -> ClientEvent | None:
        """The next event, or None when it is our turn. Raises ``OSError``, ``TimeoutError`` being one."""
        engine, connection = self._engine, self._connection
        connection.timeout_seconds = seconds
        async with asyncio.timeout(seconds):
            while True:
                event = engine.next_event()
                if not isinstance(event, SendBody):  # otherwise the message goes with it
                    connection.write(engine.data_to_send())
                if event is NEED_DATA:
                    engine.receive(await connection.read() or b"")
                elif event is NEED_REPLY:
                    return None
                else:
                    return event

    async def _until_ready(self, seconds: float) -> None:
        while True:
            try:
                event = await self._next(seconds)
            except OSError as failure:
                raise unreachable(self.host, explain(failure)) from failure
            match event:
                case Ready() | None:
                    return
                case TurnedAway(reply):
                    raise HostUnavailableError(reply, self.host)
                case Broken(reason):
                    raise unreachable(self.host, reason)
                case _:
                    pass

    async def _start_tls(self, tls: TlsDemand, context: ssl.SSLContext) -> None:
        try:
            event = await self._next(self._timeouts.command)
            if isinstance(event, TlsRefused):
                if tls.is_required:
                    text, may_pass = f"it refuses STARTTLS: {event.reply}", not event.reply.is_permanent_failure
                    raise TlsFailedError(text, "starttls-not-supported", may_pass=may_pass)
                return
            if not isinstance(event, TlsReady):
                raise TlsFailedError(f"instead of TLS: {event}")
            async with asyncio.timeout(self._timeouts.tls):
                name = tls.server_name or self.host
                await self._connection.start_tls(context, server_side=False, server_hostname=name)
        except OSError as failure:
            raise _tls_failure(failure) from failure
        if wrong := tls.objection(self._connection.peer_certificates):
            raise TlsFailedError(f"its certificate is not the one that the DNS names ({wrong})", wrong)
        self._engine.start_tls()
        await self._until_ready(self._timeouts.command)

    async def _send_body(self, message: QueuedMessage) -> None:
        engine, connection = self._engine, self._connection
        try:
            file = message.open()
        except OSError as failure:
            raise TryLater(f"{message.path}: {failure}") from failure
        with file:
            while chunk := await _read(file, message):
                engine.body(chunk)
                connection.write(engine.data_to_send())
                async with asyncio.timeout(self._timeouts.block):
                    await connection.drain()
        engine.end_body()
        connection.write(engine.data_to_send())

    async def _hear_last_words(self) -> None:
        """After an error on the way: what the server said before it went still counts."""
        self._connection.timeout_seconds = 0.001
        try:
            self._engine.receive(await self._connection.read() or b"")
        except OSError:
            pass
        self._engine.receive(b"")
        self._connection.abort()

    def _outcome(self, reply: Reply, trouble: str) -> Outcome:
        if reply.is_success:
            return Delivered(reply, self.host, dsn_passed_on="DSN" in self._engine.capabilities)
        if reply.is_permanent_failure:
            return Failed(reply, self.host)
        if trouble and reply.status == "4.4.2":
            return Deferred(Reply(451, "4.4.2", f"The session with {self.host} broke: {trouble}"))
        return Deferred(reply, self.host)


async def _read(file: BinaryIO, message: QueuedMessage) -> bytes:
    """The next piece; of a large message in a thread, so that a slow disk delays nobody else."""
    try:
        if message.size_bytes <= CHUNK:
            return file.read(CHUNK)
        return await asyncio.to_thread(file.read, CHUNK)
    except OSError as failure:
        raise TryLater(f"{message.path}: {failure}") from failure


def _tls_failure(failure: OSError) -> TlsFailedError:
    cause = failure.__cause__ if isinstance(failure.__cause__, ssl.SSLError) else failure
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TlsFailedError(cause.verify_message, _CERTIFICATE_TROUBLE.get(cause.verify_code, "validation-failure"))
    return TlsFailedError(explain(failure), may_pass=not isinstance(cause, ssl.SSLError))


def explain(failure: OSError) -> str:
    """What happened on the network, for a report."""
    if isinstance(failure, TimeoutError):
        return "timed out"
    return failure.strerror or str(failure) or type(failure).__name__


def unreachable(host: str, reason: str) -> HostUnavailableError:
    """Status 4.4.1: no answer from host. RFC 3463 §3.5."""
    return HostUnavailableError(Reply(451, "4.4.1", f"Cannot talk to {host}: {reason}"))
