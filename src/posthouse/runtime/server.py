"""One process's sessions: accepts on its sockets, runs a session for each connection, drains at the end."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id
from posthouse.runtime.measures import CONNECTIONS, SESSIONS

Session = Callable[[Connection], Awaitable[None]]
"""Serves one connection until it ends."""


class Server:
    """The sessions of one process, whatever they speak."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._sessions: dict[Connection, asyncio.Task[None]] = {}

    async def listen(
        self, sock: socket.socket, session: Session, tls: ssl.SSLContext | None = None, *, name: str = "other"
    ) -> None:
        """Accept on a bound socket; with ``tls`` the connection is encrypted from its first byte.

        ``name``: the listener's, under which its connections are counted.
        """
        loop = asyncio.get_running_loop()

        def made(connection: Connection) -> None:
            task = loop.create_task(self._run(connection, session, name))
            self._sessions[connection] = task

        def make() -> Connection:
            return Connection(made)

        extra = {"ssl": tls, "ssl_handshake_timeout": 30.0, "ssl_shutdown_timeout": 10.0} if tls else {}
        if sock.family == socket.AF_UNIX:
            server = await loop.create_unix_server(make, sock=sock, backlog=1024, **extra)
        else:
            server = await loop.create_server(make, sock=sock, backlog=1024, **extra)
        self._servers.append(server)

    async def drain(self, seconds: float) -> None:
        """Take no new connections, ask every session to finish, and end those that haven't after ``seconds``."""
        for server in self._servers:
            server.close()
        for connection in self._sessions:
            connection.draining = True
            connection.wake()
        tasks = list(self._sessions.values())
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=seconds)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _run(self, connection: Connection, session: Session, name: str) -> None:
        CONNECTIONS.add(name)
        SESSIONS.add(name)
        try:
            await session(connection)
        except (ConnectionError, TimeoutError, ssl.SSLError) as error:
            log.debug("connection-lost", peer=connection.peer, reason=str(error))
        except Exception:  # noqa: BLE001 - a bug in one session must not touch the others
            log.exception("session-failed", peer=connection.peer, trace=new_trace_id())
        finally:
            connection.close()
            del self._sessions[connection]
            SESSIONS.add(name, amount=-1)
