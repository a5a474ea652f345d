"""POP3: drives the server engine over a connection, with login and the mail store behind it.

Invariants:
  1. One session at a time has a maildrop, and it sees it as it was at the login (RFC 1939 §3, §4).
  2. Messages are removed at QUIT and never otherwise; those only that the client marked.
  3. Of a message, at most one slice is in memory; the next is read when the client has taken it. To a client that
     takes the messages in their order, the first slices of the following ones are read along, up to
     ``READ_AHEAD`` of them and about 1 MiB.
"""

import asyncio
import secrets
import ssl
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from posthouse.base.errors import PosthouseError, Refused
from posthouse.directory.directory import Directory
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.pop3.events import (
    Apop,
    Auth,
    AuthCancelled,
    AuthResponse,
    Event,
    OutputWaits,
    Quit,
    Retrieve,
    StartTls,
    UserPass,
)
from posthouse.protocols.pop3.maildrop import Maildrop
from posthouse.protocols.pop3.options import ServerOptions
from posthouse.protocols.pop3.server import Pop3ServerEngine
from posthouse.protocols.sasl.apop import Apop as ApopExchange
from posthouse.protocols.sasl.exchange import ServerMechanism, timestamp
from posthouse.protocols.sasl.steps import Challenge, Failure, Success
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id
from posthouse.runtime.measures import POP3_COMMANDS, POP3_SECONDS
from posthouse.servers.peer import is_sasl, peer
from posthouse.services.guard import ShutOut
from posthouse.services.login import Login
from posthouse.store.fetch import Message
from posthouse.store.maildroplock import MaildropLock
from posthouse.store.model import Want
from posthouse.store.store import Store
from posthouse.store.view import View

SLICE_BYTES = 256 * 1024
READ_AHEAD = 16


@dataclass(frozen=True, slots=True)
class Pop3Service:
    """What all POP3 sessions of a process share."""

    hostname: str
    login: Login
    directory: Directory
    store: Store
    tls: ssl.SSLContext | None
    timeout_seconds: float
    login_delay_seconds: int = 0

    async def serve(self, connection: Connection) -> None:
        """Serve one connection until it ends."""
        await Pop3Session(self, connection).run()


class MessageLostError(Exception):
    """A message went away after its first octets were sent: only the end of the connection can say so."""


class Pop3Session:
    """One client's connection."""

    __slots__ = (
        "_account",
        "_ahead",
        "_connection",
        "_engine",
        "_exchange",
        "_lock",
        "_maildrop",
        "_next",
        "_peer",
        "_service",
        "_timestamp",
        "_view",
    )

    def __init__(self, service: Pop3Service, connection: Connection) -> None:
        connection.timeout_seconds = service.timeout_seconds
        self._service = service
        self._connection = connection
        self._peer = peer(connection, "pop3")
        offers_tls = service.tls is not None and not connection.is_tls
        self._timestamp = self._new_timestamp()
        self._engine = Pop3ServerEngine(
            ServerOptions(
                service.hostname,
                starttls=offers_tls,
                auth=self._mechanisms(),
                timestamp=self._timestamp.decode(),
                login_delay_seconds=service.login_delay_seconds,
            )
        )
        self._exchange: ServerMechanism | None = None
        self._account = ""
        self._lock: MaildropLock | None = None
        self._view: View | None = None
        self._maildrop = Maildrop(0, (), ())
        self._next = 0  # the message that a client asks for next when it takes one after the other
        self._ahead: dict[int, bytes] = {}

    async def run(self) -> None:
        """Serve until the client has had enough, has gone or the server stops."""
        engine, connection = self._engine, self._connection
        try:
            while True:
                event = engine.next_event()
                if event is not NEED_DATA:
                    assert not isinstance(event, Pause), "an event was left unanswered"
                    await self._answer(event)
                    continue
                await self._flush()
                if engine.closed:
                    return
                data = await connection.read()
                if data is not None:
                    engine.receive(data)
                elif connection.draining:
                    return  # RFC 1939 §3: as after a time-out, without a word and without deletions
        except MessageLostError:
            connection.abort()
        finally:
            self._close_maildrop()

    async def _answer(self, event: Event) -> None:
        began, name = time.monotonic(), type(event).__name__.lower()
        result = await self._answered(event)
        POP3_COMMANDS.add(name, result)
        POP3_SECONDS.observe(time.monotonic() - began, name)

    async def _answered(self, event: Event) -> str:
        """``ok``, ``refused`` or ``unavailable``; a login that is wrong is counted as a login."""
        try:
            await _HANDLERS[type(event)](self, event)
        except PosthouseError as error:
            self._log_refusal(event, error)
            text = error.reply.text
            code = "SYS/PERM" if isinstance(error, Refused) else "SYS/TEMP"
            self._engine.refuse(text, "" if text.startswith("[") else code)
            return "refused" if isinstance(error, Refused) else "unavailable"
        except (ConnectionError, TimeoutError, ssl.SSLError, MessageLostError):
            raise
        except Exception:  # noqa: BLE001 - a bug of ours ends the command, not the session
            trace = new_trace_id()
            log.exception("pop3-failed", trace=trace, account=self._account, command=type(event).__name__)
            self._engine.refuse(f"Internal error, reported as {trace}", "SYS/TEMP")
            return "unavailable"
        return "ok"

    # One method an event.

    async def _start_tls(self, _: StartTls) -> None:
        connection, engine, tls = self._connection, self._engine, self._service.tls
        assert tls is not None, "STLS is offered only with a certificate"
        connection.pause()
        engine.accept_starttls()
        connection.write(engine.data_to_send())
        await connection.start_tls(tls)
        engine.start_tls()
        self._peer = peer(connection, "pop3")
        engine.auth_mechanisms = self._mechanisms()

    async def _user_pass(self, event: UserPass) -> None:
        email = await self._service.login.verify(event.login, event.password, self._peer)
        if email is None:
            self._refuse_login()
        else:
            await self._open_maildrop(email)

    async def _apop(self, event: Apop) -> None:
        response = f"{event.login} {event.digest}".encode("utf-8", "surrogateescape")
        # RFC 1939 §7: the greeting's timestamp is the challenge of every attempt.
        await self._take_step(ApopExchange(self._timestamp), response)

    async def _auth(self, event: Auth) -> None:
        self._exchange = self._service.login.start(event.mechanism, self._peer)
        assert self._exchange is not None, "a mechanism was announced that isn't offered"
        await self._take_step(self._exchange, event.initial)

    async def _auth_response(self, event: AuthResponse) -> None:
        assert self._exchange is not None, "a response can only follow a challenge"
        await self._take_step(self._exchange, event.data)

    async def _auth_cancelled(self, _: AuthCancelled) -> None:
        self._exchange = None

    async def _retrieve(self, event: Retrieve) -> None:
        uid = self._maildrop.uids[event.index]
        chunk = await self._first_slice(event.index)
        if chunk is None:
            self._engine.refuse("That message has been removed meanwhile")
            return
        self._engine.begin_message()
        try:
            await self._send_message(uid, chunk)
        except (ConnectionError, TimeoutError, MessageLostError):
            raise
        except Exception as error:
            trace = new_trace_id()
            log.exception("pop3-message-failed", trace=trace, account=self._account, uid=uid)
            raise MessageLostError from error
        self._engine.end_message()

    async def _output_waits(self, _: OutputWaits) -> None:
        await self._flush()
        await asyncio.sleep(0)  # a client that pipelines without end lets the others have their turn

    async def _quit(self, event: Quit) -> None:
        if event.deleted:
            assert self._view is not None
            uids = [self._maildrop.uids[index] for index in event.deleted]
            await self._view.store_flags(uids, frozenset({"\\Deleted"}), "add")
            await self._view.expunge(uids)
            log.info("pop3-deleted", account=self._account, count=len(uids))
        # The client that hears of it may come back at once.
        self._close_maildrop()
        self._engine.accept_quit()

    # Logging in.

    async def _take_step(self, exchange: ServerMechanism, response: bytes | None) -> None:
        match await self._service.login.authenticate(exchange, exchange.step(response), self._peer):
            case Challenge(data):
                self._engine.auth_challenge(data)
            case Success(email):
                await self._open_maildrop(email)
            case Failure():
                self._refuse_login()

    def _refuse_login(self) -> None:
        self._exchange = None
        self._engine.refuse("Wrong login or password", "AUTH")  # RFC 3206 §4

    def _mechanisms(self) -> tuple[str, ...]:
        return tuple(filter(is_sasl, self._service.login.mechanisms(self._peer)))

    def _new_timestamp(self) -> bytes:
        """What APOP's digests are made with; empty where it is not offered."""
        if "APOP" not in self._service.login.mechanisms(self._peer):
            return b""
        return timestamp(secrets.token_bytes(18), self._service.hostname)

    async def _open_maildrop(self, email: str) -> None:
        account = await self._service.directory.account(email)
        if account is None or not account.enabled:
            self._refuse_login()
            return
        self._account = email
        store = self._service.store.account(account.maildir, quota=account.quota)
        try:
            self._lock = await store.lock_maildrop(self._service.login_delay_seconds)
            self._view = await store.select("INBOX")
            self._maildrop = await _snapshot(self._view)
        except BaseException:
            self._close_maildrop()
            raise
        self._engine.accept_login(self._maildrop)

    def _close_maildrop(self) -> None:
        self._ahead.clear()
        if self._view is not None:
            self._view.close()
            self._view = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # Sending.

    async def _send_message(self, uid: int, chunk: bytes) -> None:
        """The message from its first slice to its last, or as much as the client wants of it."""
        position = 0
        while self._engine.message(chunk) and len(chunk) == SLICE_BYTES:
            await self._flush()
            position += SLICE_BYTES
            following = await self._slice(uid, position)
            if following is None:
                raise MessageLostError
            chunk = following

    async def _first_slice(self, index: int) -> bytes | None:
        """A message's first octets; None when it is there no more."""
        uid = self._maildrop.uids[index]
        is_in_order, self._next = index == self._next, index + 1
        if uid not in self._ahead:
            self._ahead.clear()
            if not is_in_order:
                return await self._slice(uid, 0)
            try:
                self._ahead = await self._slices(self._maildrop.uids[index : index + READ_AHEAD], 0)
            except PosthouseError:  # it may be another message's trouble
                return await self._slice(uid, 0)
        return self._ahead.pop(uid, None)

    async def _slice(self, uid: int, start: int) -> bytes | None:
        """A message's octets from ``start``; None when it is there no more."""
        return (await self._slices([uid], start)).get(uid)

    async def _slices(self, uids: Sequence[int], start: int) -> dict[int, bytes]:
        """The same of as many messages as are read at once."""
        assert self._view is not None

        def cut(message: Message) -> tuple[int, bytes]:
            return message.uid, message.body(start, start + SLICE_BYTES)

        async for batch in self._view.fetch(uids, Want.BODY, cut):
            return dict(batch)
        return {}

    async def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self._connection.write(data)
            await self._connection.drain()

    def _log_refusal(self, event: Event, error: PosthouseError) -> None:
        command, peer = type(event).__name__.lower(), self._connection.peer
        if isinstance(error, Refused | ShutOut):
            log.info("pop3-refused", account=self._account, peer=peer, command=command, reason=error.reason)
        else:
            log.warning("pop3-unavailable", account=self._account, peer=peer, command=command, reason=error.reason)


async def _snapshot(view: View) -> Maildrop:
    """What is in the mailbox now; a message that vanishes while we look is left out."""
    uids, sizes = array("L"), array("Q")
    async for batch in view.fetch(view.uids, Want.SIZE, lambda message: (message.uid, message.size)):
        for uid, size in batch:
            uids.append(uid)
            sizes.append(size)
    return Maildrop(view.uidvalidity, uids, sizes, await view.uidls())


_HANDLERS: dict[type[Event], Callable[[Pop3Session, Any], Awaitable[None]]] = {
    StartTls: Pop3Session._start_tls,
    UserPass: Pop3Session._user_pass,
    Apop: Pop3Session._apop,
    Auth: Pop3Session._auth,
    AuthResponse: Pop3Session._auth_response,
    AuthCancelled: Pop3Session._auth_cancelled,
    Retrieve: Pop3Session._retrieve,
    OutputWaits: Pop3Session._output_waits,
    Quit: Pop3Session._quit,
}
