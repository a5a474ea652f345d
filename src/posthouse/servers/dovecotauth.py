"""Dovecot's auth protocol: another program's clients log in with the accounts of this host.

Each login is a task of its own, so that one that takes long, as all that fail do, holds up no other.

Invariants:
  1. What may be used is what the client's own connection permits: no password in clear from afar.
  2. A failure of ours is a temporary one: ``temp``.
"""

import asyncio
import itertools
import os
import secrets
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field

from posthouse.base.errors import PosthouseError
from posthouse.protocols.dovecotauth.events import Auth, Cancel, Continue, Event
from posthouse.protocols.dovecotauth.server import DovecotAuthEngine
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.server import ServerMechanism
from posthouse.protocols.sasl.steps import Challenge, Failure, Success
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id
from posthouse.servers import programs
from posthouse.services.guard import ShutOut
from posthouse.services.login import Login

IDLE_SECONDS = 86_400.0
"""Programs keep their connection for as long as they run, and some do nothing for hours."""
_NOT_BY_PROXY = frozenset({"EXTERNAL", "APOP"})
"""Mechanisms that need the client's own connection or greeting, as those do that bind to a channel."""


@dataclass(frozen=True, slots=True)
class DovecotAuthService:
    """What all connections of a process share."""

    login: Login
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def serve(self, connection: Connection) -> None:
        """Serve one program until it has had enough or the server stops."""
        await DovecotAuthSession(self, connection).run()

    def mechanisms(self) -> list[str]:
        """What is announced: everything that some client may use. Whether this one may is seen when it tries."""
        offered = self.login.mechanisms(Peer("smtp", "unix", is_tls=True))
        return [name for name in offered if name not in _NOT_BY_PROXY and not name.endswith("-PLUS")]


@dataclass(frozen=True, slots=True)
class _Exchange:
    mechanism: ServerMechanism
    peer: Peer


class DovecotAuthSession:
    """One program's connection."""

    __slots__ = ("_connection", "_engine", "_exchanges", "_service", "_tasks")

    def __init__(self, service: DovecotAuthService, connection: Connection) -> None:
        connection.timeout_seconds = IDLE_SECONDS
        self._service = service
        self._connection = connection
        self._engine = DovecotAuthEngine(
            service.mechanisms(),
            process_id=os.getpid(),
            connection_id=next(service.numbers),
            cookie=secrets.token_hex(16),
        )
        self._exchanges: dict[int, _Exchange] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the program has gone, has broken the protocol, or the server stops."""
        engine, connection = self._engine, self._connection
        try:
            while True:
                event = engine.next_event()
                if event is not NEED_DATA:
                    assert not isinstance(event, Pause), "this engine waits for no answer"
                    self._take(event)
                    continue
                self._flush()
                if engine.closed:
                    break
                await connection.drain()
                data = await connection.read()
                if data is not None:
                    engine.receive(data)
                elif connection.draining:
                    break
            if engine.error:
                log.warning("auth-client-broken", protocol="dovecot", peer=connection.peer, reason=engine.error)
            elif self._tasks:  # the last answers, for a program that only closed its side or for our end
                await asyncio.wait(self._tasks.values())
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _take(self, event: Event) -> None:
        match event:
            case Auth():
                self._begin(event)
            case Continue(id, data):
                exchange = self._exchanges[id]
                self._start(id, self._step(id, exchange, data))
            case Cancel(id):
                self._forget(id)
                if task := self._tasks.pop(id, None):
                    task.cancel()

    def _begin(self, event: Auth) -> None:
        peer = programs.peer(event.service, event.remote_ip, is_tls=event.secured)
        login, name = self._service.login, event.mechanism
        mechanism = login.start(name, peer) if name in login.mechanisms(peer) else None
        if mechanism is None or name not in self._service.mechanisms():
            log.info("login-failed", protocol=peer.protocol, peer=peer.address, reason=f"{name} is not permitted")
            self._engine.refuse(event.id, reason="This is not permitted here, or only with TLS")
            return
        exchange = self._exchanges[event.id] = _Exchange(mechanism, peer)
        self._start(event.id, self._step(event.id, exchange, event.initial))

    def _start(self, id: int, work: Coroutine[None, None, None]) -> None:  # noqa: A002
        task = self._tasks[id] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda task: self._done(id, task))

    def _done(self, id: int, task: asyncio.Task[None]) -> None:  # noqa: A002
        if self._tasks.get(id) is task:
            del self._tasks[id]

    async def _step(self, id: int, exchange: _Exchange, response: bytes | None) -> None:  # noqa: A002
        """What follows from a response, to its end or to the next challenge."""
        engine, mechanism, peer = self._engine, exchange.mechanism, exchange.peer
        try:
            outcome = await self._service.login.authenticate(mechanism, mechanism.step(response), peer)
        except PosthouseError as error:
            tell = log.info if isinstance(error, ShutOut) else log.warning
            tell("login-unavailable", protocol=peer.protocol, peer=peer.address, reason=error.reason)
            self._fail_for_now(id, error.reply.text)
        except Exception:  # noqa: BLE001 - a bug of ours is a failure of ours
            trace = new_trace_id()
            log.exception("auth-failed", trace=trace, protocol=peer.protocol, peer=peer.address)
            self._fail_for_now(id, f"Internal error, reported as {trace}")
        else:
            match outcome:
                case Challenge(data):
                    engine.challenge(id, data)
                case Success(account):
                    self._forget(id)
                    engine.accept(id, account)
                case Failure():
                    self._forget(id)
                    engine.refuse(id, user=mechanism.login, reason="Wrong login or password")
        self._flush()

    def _fail_for_now(self, id: int, reason: str) -> None:  # noqa: A002
        self._forget(id)
        self._engine.refuse(id, reason=reason, code="temp_fail", temporary=True)

    def _forget(self, id: int) -> None:  # noqa: A002
        self._exchanges.pop(id, None)

    def _flush(self) -> None:
        self._connection.write(self._engine.data_to_send())
