"""clamd: a message is sent to the first daemon that takes it, over TCP or a Unix socket.

Invariants:
  1. A daemon that fails, also in the midst of a message, costs nothing but time: the next one gets all of it anew.
  2. Each has its share of the time, and one that failed is asked last for ``AWAY_SECONDS``: a daemon that hangs is
     waited for once, not with each message.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from posthouse.base.clock import Clock
from posthouse.config.endpoints import Endpoint
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.verdict import Action, Finding, Verdict, unscanned
from posthouse.protocols.clamd.client import Broken, ClamdClientEngine, Clean, Event, Found, TooLarge
from posthouse.protocols.engine import Pause

CONNECT_SECONDS = 5.0
AWAY_SECONDS = 30.0
CHUNK_BYTES = 64 * 1024


class ClamdFilter:
    """``servers`` in order of preference."""

    def __init__(self, name: str, servers: Sequence[Endpoint], timeout_seconds: float, clock: Clock) -> None:
        self.name = name
        self._servers = tuple(servers)
        self._share_seconds = timeout_seconds / len(self._servers)
        self._clock = clock
        self._away_until: dict[Endpoint, float] = {}

    async def close(self) -> None:
        """Nothing is kept open."""

    async def judge(self, mail: Mail) -> Verdict:
        troubles: list[str] = []
        for server in self._in_order():
            try:
                async with asyncio.timeout(self._share_seconds):
                    event = await _scan(server, mail)
                if not isinstance(event, Broken):
                    self._away_until.pop(server, None)
                    return self._verdict(event, server)
                trouble = event.reason
            except TimeoutError:
                trouble = "no answer in time"
            except OSError as error:
                trouble = error.strerror or str(error)
            troubles.append(f"{server}: {trouble}")
            self._away_until[server] = self._clock.monotonic() + AWAY_SECONDS
        raise FilterTrouble("; ".join(troubles))

    def _in_order(self) -> list[Endpoint]:
        now = self._clock.monotonic()
        return sorted(self._servers, key=lambda server: self._away_until.get(server, 0.0) > now)

    def _verdict(self, event: Clean | Found | TooLarge, server: Endpoint) -> Verdict:
        match event:
            case Clean():
                return Verdict(self.name, reasons=("no virus",))
            case Found(name):
                return Verdict(self.name, Action.REJECT, findings=(Finding("virus", name),))
            case TooLarge():
                return unscanned(self.name, f"larger than StreamMaxLength of {server}")


async def _scan(server: Endpoint, mail: Mail) -> Event:
    """One daemon's answer. Raises ``OSError``.

    Over a bare socket: asyncio's streams throw away what has come once the other side takes no more, and clamd says
    why before it closes.
    """
    engine = ClamdClientEngine()
    async with asyncio.timeout(CONNECT_SECONDS):
        connection = await _connect(server)
    with connection:
        answer = asyncio.ensure_future(_answer(connection, engine))
        try:
            with contextlib.suppress(ConnectionError):
                await _send(connection, engine, mail, answer)
            return await answer
        finally:
            if not answer.done():
                answer.cancel()
                await asyncio.wait({answer})  # it must have let go of the socket before that is closed


async def _connect(server: Endpoint) -> socket.socket:
    loop = asyncio.get_running_loop()
    if server.path:
        places: list[tuple[int, Any]] = [(socket.AF_UNIX, server.path)]
    else:
        found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
        places = [(family, address) for family, _, _, _, address in found]
    trouble = OSError(f"{server.host} has no address")
    for family, address in places:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            trouble = error
        else:
            return connection
    raise trouble


async def _send(
    connection: socket.socket, engine: ClamdClientEngine, mail: Mail, answer: "asyncio.Future[Event]"
) -> None:
    loop = asyncio.get_running_loop()
    engine.begin()
    for chunk in mail.content.chunks(CHUNK_BYTES):
        engine.chunk(chunk)
        await loop.sock_sendall(connection, engine.data_to_send())
        if answer.done():
            return
    engine.end()
    await loop.sock_sendall(connection, engine.data_to_send())


async def _answer(connection: socket.socket, engine: ClamdClientEngine) -> Event:
    loop = asyncio.get_running_loop()
    while isinstance(event := engine.next_event(), Pause):
        engine.receive(await loop.sock_recv(connection, 4096))
    return event
