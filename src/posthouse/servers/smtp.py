"""SMTP, submission and LMTP: drives the server engine over a connection, with reception behind it.

The engine speaks the protocol, ``services.reception`` decides; this turns one's events into the other's calls
and errors into replies.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from posthouse.base.errors import TEMPORARY_FAILURE, PosthouseError, Refused, Reply, TryLater
from posthouse.journal.content import Content
from posthouse.message.trace import with_protocol
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.sasl.exchange import ServerMechanism
from posthouse.protocols.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Chunk,
    DataStart,
    Hello,
    MailFrom,
    MessageEnd,
    Quit,
    RcptTo,
    Reset,
    StartTls,
    XClient,
)
from posthouse.protocols.smtp.server import ServerOptions, SmtpServerEngine
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id
from posthouse.servers.door import TOO_EARLY, Door, TurnedAway
from posthouse.servers.peer import is_sasl, peer
from posthouse.servers.smtpcounts import STAGES, SmtpCounts
from posthouse.servers.smtplogin import take_step
from posthouse.services.login import Login
from posthouse.services.milters.session import Milters
from posthouse.services.reception import Client, Reception, Transaction

OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
SHUTTING_DOWN = Reply(421, "4.3.2", "This server is restarting, please try again in a moment")
TIMED_OUT = Reply(421, "4.4.2", "Timeout: closing connection")
MINIMUM_RATE = 1000
"""Octets a second: how fast, on the average, a message has to come that takes longer than the timeout."""
NO_TLS = Reply(454, "4.7.0", "TLS is not available at the moment")


@dataclass(frozen=True, slots=True)
class SmtpService:
    """What the sessions of one kind of listener share."""

    options: ServerOptions
    reception: Reception
    login: Login | None
    tls: ssl.SSLContext | None
    timeout_seconds: float
    is_submission: bool = False
    door: Door = field(default_factory=Door)
    milters: Milters | None = None

    async def serve(self, connection: Connection) -> None:
        """Serve one connection until it ends."""
        try:
            early = await self.door.client(connection)
        except TurnedAway as error:
            log.warning("proxy-turned-away", peer=connection.peer, reason=str(error))
            SmtpCounts(self.options.lmtp, self.is_submission).turned_down("connect", TOO_EARLY)
            return
        await SmtpSession(self, connection).run(early)


class SmtpSession:
    """One client's connection."""

    __slots__ = (
        "_client",
        "_connection",
        "_counts",
        "_engine",
        "_errors",
        "_mechanism",
        "_peer",
        "_pending",
        "_service",
        "_transaction",
        "_until",
    )

    def __init__(self, service: SmtpService, connection: Connection) -> None:
        connection.timeout_seconds = service.timeout_seconds
        self._service = service
        self._connection = connection
        self._peer = peer(connection, "smtp")
        is_proxy = service.door.may_say_who(connection.peer)
        self._engine = SmtpServerEngine(replace(service.options, xclient=True) if is_proxy else service.options)
        self._errors = 0
        self._counts = SmtpCounts(service.options.lmtp, service.is_submission)
        self._engine.tls = connection.is_tls
        self._client = Client(
            connection.peer,
            is_submission=service.is_submission,
            is_lmtp=service.options.lmtp,
            is_trusted=service.reception.is_trusted(connection.peer),
        )
        if service.milters is not None:
            self._client.milters = service.milters.session(self._client)
        self._mechanism: ServerMechanism | None = None
        self._transaction: Transaction | None = None
        self._pending: Content | None = None
        self._until = 0.0

    async def run(self, early: bytes = b"") -> None:
        """Serve until the client or the server has had enough. ``early``: what it has said already."""
        door, connection, engine = self._service.door, self._connection, self._engine
        try:
            with door.session(connection.peer):
                waits = not self._client.is_trusted
                if waits and (turned_away := await door.wait(connection, early)):
                    self._counts.turned_down("connect", turned_away)
                    engine.reply(turned_away)
                    connection.write(engine.data_to_send())
                    return
                await self._serve(early)
        except TryLater as error:
            log.info("turned-away", peer=connection.peer, reply=str(error.reply), reason=error.reason)
            self._counts.turned_down("connect", error.reply, error)
            engine.reply(error.reply)
            connection.write(engine.data_to_send())

    async def _serve(self, early: bytes) -> None:
        engine = self._engine
        engine.auth_mechanisms = self._mechanisms()
        try:
            await self._greet()
            if early:
                engine.receive(early)
            while True:
                event = engine.next_event()
                if event is NEED_DATA:
                    await self._pump()
                elif isinstance(event, Quit):
                    self._connection.write(engine.data_to_send())
                    return
                else:
                    assert not isinstance(event, Pause), "an event was left unanswered"
                    await self._answer(event)
        finally:
            self._drop()
            if self._client.milters is not None:
                self._client.milters.close()

    async def _greet(self) -> None:
        try:
            if self._client.milters is not None:
                await self._client.milters.connect()
        except Refused as error:
            self._log_refusal(None, error)
            self._counts.turned_down("connect", error.reply, error)
            self._engine.reply(replace(error.reply, code=554))  # RFC 5321 §3.1
            return
        self._engine.greet()
        self._counts.accepted("connect")

    async def _pump(self) -> None:
        """Send what there is to send, then wait for the client."""
        connection, engine = self._connection, self._engine
        if engine.errors > self._errors >= self._service.door.soft_error_limit:
            await asyncio.sleep(self._service.door.error_wait_seconds)  # who errs often is answered late
        self._errors = engine.errors
        for objection in engine.objections():
            self._counts.turned_down("command", objection)
        answers = engine.data_to_send()
        connection.write(answers)
        await connection.drain()
        self._set_limit(has_answered=bool(answers))
        # A message that is on its way is taken to its end; whoever sends none is told to come again.
        if connection.draining and (self._transaction is None or self._transaction.content is None):
            engine.close(SHUTTING_DOWN)
            return
        try:
            data = await connection.read(self._until)
        except TimeoutError:
            engine.close(TIMED_OUT)
            return
        if data is not None:
            if self._pending is not None:
                self._until += len(data) / MINIMUM_RATE
            engine.receive(data)

    def _set_limit(self, *, has_answered: bool) -> None:
        """Until when the next command, or all of the message, has to be here: a timer for each silence alone could be
        kept from ringing by an octet now and then. RFC 5321 §4.5.3.2."""
        content = self._transaction.content if self._transaction is not None else None
        if content is not self._pending or (content is None and (has_answered or not self._until)):
            self._pending = content
            self._until = self._connection.loop.time() + self._service.timeout_seconds

    async def _answer(self, event: object) -> None:
        handler = _HANDLERS[type(event)]
        stage = STAGES.get(type(event))
        try:
            await handler(self, event)
        except PosthouseError as error:
            self._log_refusal(event, error)
            self._counts.turned_down(stage, error.reply, error)
            self._engine.reply(error.reply)
        except (ConnectionError, TimeoutError):
            raise
        except Exception:  # noqa: BLE001 - a bug of ours is never the sender's failure
            log.exception("smtp-failed", trace=self._trace_id, peer=self._connection.peer, at=type(event).__name__)
            self._drop()
            self._counts.turned_down(stage, TEMPORARY_FAILURE)
            self._engine.reply(TEMPORARY_FAILURE)
        else:
            self._counts.accepted(stage)

    # One method an event.

    async def _hello(self, event: Hello) -> None:
        self._drop()
        client = self._client
        client.helo = event.name
        client.with_protocol = self._with_protocol(event.verb)
        if client.milters is not None:
            await client.milters.helo()
        self._engine.accept_hello()

    async def _start_tls(self, _: StartTls) -> None:
        tls = self._service.tls
        if tls is None:
            raise TryLater("there is no certificate", NO_TLS)
        connection, engine = self._connection, self._engine
        connection.pause()
        engine.accept_starttls()
        connection.write(engine.data_to_send())
        await connection.start_tls(tls)
        engine.start_tls()
        self._peer = peer(connection, "smtp")
        self._client.login = self._client.helo = ""  # what was said in clear counts no more (RFC 3207 §4.2)
        self._client.tls = f"{connection.tls_version} {connection.tls_cipher}"
        engine.auth_mechanisms = self._mechanisms()

    async def _xclient(self, event: XClient) -> None:
        self._drop()
        client, connection = self._client, self._connection
        log.info("xclient", peer=connection.peer, address=event.address, login=event.login or "")
        if event.address:
            connection.peer = client.peer = event.address
            client.is_trusted = self._service.reception.is_trusted(event.address)
            client.name = None
        if event.name is not None:
            client.name = event.name
        client.helo = event.helo or client.helo
        if event.login is not None:
            client.login = event.login
        client.known = {}
        self._peer = peer(connection, "smtp")
        if client.milters is not None:
            await client.milters.connect()
        self._engine.accept_xclient(event.login)
        self._engine.auth_mechanisms = self._mechanisms()

    async def _auth(self, event: Auth) -> None:
        login = self._service.login
        mechanism = login.start(event.mechanism, self._peer) if login else None
        if login is None or mechanism is None:
            self._engine.reply(Reply(504, "5.5.4", "Unrecognized authentication mechanism"))
            return
        self._mechanism = mechanism
        await self._take_step(event.initial)

    async def _auth_response(self, event: AuthResponse) -> None:
        await self._take_step(event.data)

    async def _take_step(self, response: bytes | None) -> None:
        login, mechanism, client = self._service.login, self._mechanism, self._client
        assert login is not None
        assert mechanism is not None
        account = await take_step(login, mechanism, response, self._peer, self._engine, self._counts)
        if account:
            client.login, client.mechanism = account, mechanism.name
            client.with_protocol = self._with_protocol("EHLO")

    async def _auth_cancelled(self, _: AuthCancelled) -> None:
        self._mechanism = None

    async def _mail_from(self, event: MailFrom) -> None:
        self._drop()
        self._counts.message_began(time.monotonic())
        if self._service.door.rates is not None:
            self._service.door.rates.message(self._client.peer, self._client.login)
        self._transaction = await self._service.reception.begin(
            self._client,
            event.path,
            size_bytes=event.size,
            body=event.body,
            smtputf8=event.smtputf8,
            ret=event.ret,
            envid=event.envid,
            requiretls=event.requiretls,
        )
        self._engine.reply(OK)

    async def _rcpt_to(self, event: RcptTo) -> None:
        assert self._transaction is not None
        if self._service.door.rates is not None:
            self._service.door.rates.recipient(self._client.peer, self._client.login)
        self._client.has_run_ahead |= self._engine.has_run_ahead
        await self._service.reception.add_recipient(self._transaction, event.path, event.notify, event.orcpt)
        self._engine.reply(RECIPIENT_OK)

    async def _data_start(self, _: DataStart) -> None:
        assert self._transaction is not None
        self._client.has_run_ahead |= self._engine.has_run_ahead
        await self._service.reception.check_data(self._transaction)
        self._service.reception.start_content(self._transaction)
        self._engine.accept_data()

    async def _chunk(self, event: Chunk) -> None:
        assert self._transaction is not None
        self._service.reception.add_content(self._transaction, event.data)

    async def _message_end(self, event: MessageEnd) -> None:
        transaction = self._transaction
        assert transaction is not None
        assert transaction.content is not None
        try:
            await self._service.reception.finish(transaction)
            reply = Reply(250, "2.0.0", f"Ok: {transaction.envelope.trace_id}")
            self._counts.message_accepted(time.monotonic(), transaction.content.size)
        except PosthouseError as error:
            self._log_refusal(event, error)
            self._counts.turned_down("message", error.reply, error)
            reply = error.reply
        except Exception:  # noqa: BLE001 - a bug of ours is never the sender's failure
            log.exception("smtp-failed", trace=self._trace_id, peer=self._connection.peer, at="MessageEnd")
            self._counts.turned_down("message", TEMPORARY_FAILURE)
            reply = TEMPORARY_FAILURE
        self._drop()
        # RFC 2033 §4.2: LMTP answers once for each recipient; all share one fate here.
        for _each in transaction.accepted if self._service.options.lmtp else (None,):
            self._engine.reply(reply)

    async def _reset(self, _: Reset) -> None:
        self._drop()

    # What the methods share.

    def _mechanisms(self) -> tuple[str, ...]:
        login = self._service.login
        return tuple(filter(is_sasl, login.mechanisms(self._peer))) if login is not None else ()

    def _with_protocol(self, verb: str) -> str:
        return with_protocol(verb, tls=self._connection.is_tls, auth=bool(self._client.login))

    def _drop(self) -> None:
        if self._client.milters is not None:
            self._client.milters.abort()
        if self._transaction is not None:
            self._transaction.close()
            self._transaction = None

    @property
    def _trace_id(self) -> str:
        return self._transaction.envelope.trace_id if self._transaction else new_trace_id()

    def _log_refusal(self, event: object, error: PosthouseError) -> None:
        log.info(
            "refused" if isinstance(error, Refused) else "deferred-at-door",
            trace=self._trace_id,
            peer=self._connection.peer,
            helo=self._client.helo,
            sender=self._transaction.envelope.sender if self._transaction else getattr(event, "path", ""),
            recipient=event.path if isinstance(event, RcptTo) else "",
            reply=str(error.reply),
            reason=error.reason,
        )


# Each takes the event that is its key.
_HANDLERS: dict[type, Callable[[SmtpSession, Any], Awaitable[None]]] = {
    Hello: SmtpSession._hello,
    StartTls: SmtpSession._start_tls,
    Auth: SmtpSession._auth,
    AuthResponse: SmtpSession._auth_response,
    AuthCancelled: SmtpSession._auth_cancelled,
    MailFrom: SmtpSession._mail_from,
    RcptTo: SmtpSession._rcpt_to,
    DataStart: SmtpSession._data_start,
    Chunk: SmtpSession._chunk,
    MessageEnd: SmtpSession._message_end,
    Reset: SmtpSession._reset,
    XClient: SmtpSession._xclient,
}
