"""Look-ups for Postfix, by socketmap and by tcp_table: drives their engines over a connection.

Invariants:
  1. Where the directory can't answer, Postfix is told to try again; never that there is nothing.
  2. The next question is looked at when the answer before it has been taken.
"""

from collections.abc import Callable
from dataclasses import dataclass

from posthouse.base.errors import PosthouseError
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.socketmap.server import Lookup, SocketmapEngine
from posthouse.protocols.tcptable.server import TcpTableEngine
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id
from posthouse.services.postfixmaps import PostfixMaps, UnknownMapError

IDLE_SECONDS = 86_400.0
"""Postfix keeps its connections for as long as its processes live; tcp_table(5) says that it never hangs up."""

Engine = SocketmapEngine | TcpTableEngine


@dataclass(frozen=True, slots=True)
class LookupService:
    """What all connections to one kind of address share; ``engine`` makes what speaks on one."""

    maps: PostfixMaps
    engine: Callable[[], Engine]

    async def serve(self, connection: Connection) -> None:
        """Serve one program until it has had enough or the server stops."""
        connection.timeout_seconds = IDLE_SECONDS
        engine = self.engine()
        while True:
            event = engine.next_event()
            if event is not NEED_DATA:
                assert not isinstance(event, Pause), "a question was left unanswered"
                await self._answer(engine, event, connection.peer)
            connection.write(engine.data_to_send())
            await connection.drain()
            if event is not NEED_DATA:
                continue
            if engine.closed:
                break
            data = await connection.read()
            if data is not None:
                engine.receive(data)
            elif connection.draining:
                return
        if engine.error:
            log.warning("lookup-client-broken", peer=connection.peer, reason=engine.error)

    async def _answer(self, engine: Engine, lookup: Lookup, peer: str) -> None:
        try:
            value = await self.maps.look_up(lookup.map, lookup.key)
        except UnknownMapError as error:
            log.warning("lookup-refused", peer=peer, map=lookup.map[:80], reason=str(error))
            engine.permanent(str(error))
        except PosthouseError as error:
            log.warning("lookup-unavailable", peer=peer, map=lookup.map, key=lookup.key[:255], reason=error.reason)
            engine.temporary(error.reply.text)
        except Exception:  # noqa: BLE001 - a bug of ours is a failure of ours
            trace = new_trace_id()
            log.exception("lookup-failed", trace=trace, peer=peer, map=lookup.map, key=lookup.key[:255])
            engine.temporary(f"Internal error, reported as {trace}")
        else:
            if value is None:
                engine.not_found()
            else:
                engine.found(value)
