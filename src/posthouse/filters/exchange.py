"""One question to the first of several servers that answers: bytes out, an engine's event back."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from posthouse.config.endpoints import Endpoint
from posthouse.filters.filter import FilterTrouble
from posthouse.protocols.engine import Pause

CONNECT_SECONDS = 5.0
Answer = TypeVar("Answer")


class Engine(Protocol):
    """What reads the answer."""

    def receive(self, data: bytes) -> None: ...

    def next_event(self) -> Any: ...


async def ask(
    servers: Sequence[Endpoint],
    question: Callable[[], Iterable[bytes]],
    engine: Callable[[], Engine],
    accept: Callable[[Any], Answer],
) -> Answer:
    """What ``accept`` makes of a server's event; it raises ``FilterTrouble`` for one that is no answer.

    Raises ``FilterTrouble`` where none has answered. How long it may take is the pipeline's business.
    """
    troubles: list[str] = []
    for server in servers:
        try:
            return accept(await _exchange(server, question(), engine()))
        except FilterTrouble as error:
            troubles.append(f"{server}: {error}")
        except TimeoutError:
            troubles.append(f"{server}: no connection within {CONNECT_SECONDS:g} s")
        except OSError as error:
            troubles.append(f"{server}: {error.strerror or error}")
    raise FilterTrouble("; ".join(troubles))


async def _exchange(server: Endpoint, question: Iterable[bytes], engine: Engine) -> Any:
    async with asyncio.timeout(CONNECT_SECONDS):
        if server.path:
            reader, writer = await asyncio.open_unix_connection(server.path)
        else:
            reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        # One that knows its answer before the end of the message may take no more of it.
        with contextlib.suppress(ConnectionError):
            for piece in question:
                writer.write(piece)
                await writer.drain()
        while isinstance(event := engine.next_event(), Pause):
            engine.receive(await reader.read(65_536))
        return event
    finally:
        writer.transport.abort()
