"""Connections over real sockets on loopback."""

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme

from posthouse.runtime.connection import READ_LIMIT, Connection
from posthouse.runtime.server import Server


@contextlib.asynccontextmanager
async def served(session, tls=None):
    """A server on a free port of loopback that runs ``session``; yields its port."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    server = Server()
    await server.listen(sock, session, tls)
    try:
        yield sock.getsockname()[1]
    finally:
        await server.drain(1.0)


@contextlib.asynccontextmanager
async def connected(port):
    """A client's reader and writer, gone without trace afterwards."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_what_is_written_comes_back_through_read():
    async def echo(connection):
        while data := await connection.read():
            connection.write(data.upper())

    async def main():
        async with served(echo) as port, connected(port) as (reader, writer):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"

    asyncio.run(main())


def test_read_returns_empty_once_the_peer_has_finished():
    got = []

    async def session(connection):
        got.append(await connection.read())
        got.append(await connection.read())
        connection.write(b"bye")

    async def main():
        async with served(session) as port, connected(port) as (reader, writer):
            writer.write(b"last words")
            writer.write_eof()
            assert await reader.read() == b"bye"  # a half-closed peer still hears us

    asyncio.run(main())
    assert got == [b"last words", b""]


def test_a_silent_peer_times_out():
    async def session(connection):
        connection.timeout_seconds = 0.05
        with pytest.raises(TimeoutError):
            await connection.read()
        connection.write(b"too slow")

    async def main():
        async with served(session) as port, connected(port) as (reader, writer):
            assert await reader.read() == b"too slow"

    asyncio.run(main())


def test_wake_ends_a_read_that_waits():
    async def session(connection):
        connection.loop.call_soon(connection.wake)
        assert await connection.read() is None
        connection.write(b"woken")

    async def main():
        async with served(session) as port, connected(port) as (reader, writer):
            assert await reader.read() == b"woken"

    asyncio.run(main())


def test_a_peer_that_sends_without_end_is_made_to_wait():
    """Memory stays bounded while the session does something else."""
    sizes = []
    go_on = asyncio.Event()

    async def session(connection):
        await go_on.wait()
        sizes.append(connection._size)
        while await connection.read():
            pass

    async def main():
        async with served(session) as port, connected(port) as (_, writer):
            writer.write(bytes(50_000_000))
            for _ in range(200):
                await asyncio.sleep(0)
            go_on.set()
            writer.write_eof()
            await writer.drain()

    asyncio.run(main())
    assert 0 <= sizes[0] <= 3 * READ_LIMIT


def test_drain_gives_up_on_a_peer_that_does_not_read():
    gave_up = asyncio.Event()

    async def session(connection):
        connection.timeout_seconds = 0.1
        connection.write(bytes(30_000_000))
        with pytest.raises(TimeoutError):
            await connection.drain()
        connection.abort()
        gave_up.set()

    async def main():
        async with served(session) as port, connected(port):
            await gave_up.wait()

    asyncio.run(main())


def test_start_tls_encrypts_and_drops_what_came_in_clear(server_tls, client_tls):
    """RFC 3207 §4.2: nothing from before the handshake survives it."""
    got = []

    async def session(connection):
        assert await connection.read() == b"STARTTLS"
        connection.pause()
        connection.write(b"go")
        await connection.start_tls(server_tls)
        assert connection.is_tls
        assert connection.tls_version.startswith("TLSv1.")
        got.append(await connection.read())
        connection.write(b"safe")

    async def main():
        async with served(session) as port:

            def made(connection):
                connection.write(b"STARTTLS")

            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(made), "127.0.0.1", port)
            assert await connection.read() == b"go"
            await connection.start_tls(client_tls, server_side=False, server_hostname="localhost")
            connection.write(b"secret")
            assert await connection.read() == b"safe"
            connection.abort()
            await asyncio.sleep(0)

    asyncio.run(main())
    assert got == [b"secret"]


def test_garbage_instead_of_a_handshake_is_a_lost_connection(server_tls):
    """Not an error of ours, and whatever is written afterwards goes nowhere."""
    got = []

    async def session(connection):
        connection.pause()
        connection.write(b"go")
        try:
            await connection.start_tls(server_tls)
        except ConnectionError as error:
            got.append(str(error))
            connection.write(b"too late")
            assert await connection.read() == b""
            raise

    async def main():
        async with served(session) as port, connected(port) as (reader, writer):
            assert await reader.read(2) == b"go"
            writer.write(b"\x16\x03\x01\x02\x00" + bytes(600))
            assert b"too late" not in await reader.read()

    asyncio.run(main())
    assert len(got) == 1
    assert got[0].startswith("TLS handshake failed")


def test_a_session_that_fails_closes_its_connection_only(capfd):
    async def session(connection):
        if await connection.read() == b"crash":
            raise RuntimeError("a bug")
        connection.write(b"fine")

    async def main():
        async with served(session) as port:
            async with connected(port) as (first_reader, first), connected(port) as (second_reader, second):
                first.write(b"crash")
                assert await first_reader.read() == b""
                second.write(b"go")
                assert await second_reader.read() == b"fine"

    asyncio.run(main())


def test_drain_tells_sessions_that_the_server_stops():
    said, reached = [], []

    async def session(connection):
        while await connection.read() is not None:
            reached.append(True)
        assert connection.draining
        connection.write(b"goodbye")
        said.append(True)

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            async with served(session) as port:
                reader, writer = await stack.enter_async_context(connected(port))
                writer.write(b"hello")
                while not said and not reached:
                    await asyncio.sleep(0)
            assert await reader.read() == b"goodbye"

    asyncio.run(main())
    assert said == [True]
