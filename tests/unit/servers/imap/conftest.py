"""A live IMAP service on loopback, with a real store, directory and journal, and a client that shows every octet."""

import asyncio
import os
import socket
import sqlite3
import ssl
import threading
from contextlib import closing
from dataclasses import replace

import pytest
import trustme

from posthouse.config.checks import MECHANISMS
from posthouse.config.settings import Auth, Imap, Settings
from posthouse.directory.directory import Directory
from posthouse.journal.journal import Journal
from posthouse.runtime.server import Server
from posthouse.runtime.watch import Watch
from posthouse.servers.imap.session import ImapService, ImapSession
from posthouse.services.login import Login
from posthouse.store.store import Store


class LiveImap:
    """Serves alice@example.test, password ``secret``, from a thread of its own."""

    def __init__(self, data_dir: str, **changes: object) -> None:
        base = Settings(
            hostname="mail.example.test", data_dir=data_dir, auth=Auth(mechanisms=MECHANISMS), imap=Imap()
        )
        self.settings = replace(base, **changes)
        self.authority = trustme.CA()
        self.port = 0
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def start(self) -> "LiveImap":
        self._thread.start()
        assert self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        if self._failure is None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._serve()
        except BaseException as failure:
            self._failure = failure
            self._ready.set()
            raise

    async def _serve(self) -> None:
        settings = self.settings
        os.makedirs(settings.path("tmp"), exist_ok=True)
        directory = Directory(settings)
        await directory.open()
        with closing(sqlite3.connect(directory.database.path)) as database:
            # Small enough to be full soon.
            for name, quota in (("alice", ""), ("bob", "3000S")):
                database.execute(
                    "INSERT INTO users (email, clear, maildir, quota) VALUES (?, 'secret', ?, ?)",
                    (f"{name}@example.test", f"example.test/{name}/", quota),
                )
            database.commit()
        journal = Journal(settings.path("journal"))
        journal.start()
        watch = Watch()
        store = Store(settings.path(settings.mail.root), journal, watch, hostname=settings.hostname)
        login = Login(directory, settings.auth, hostname=settings.hostname, secret=b"x" * 32, failure_seconds=0.0)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("localhost").configure_cert(tls)
        service = ImapService(settings, login, store, directory, tls)
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        server = Server()
        await server.listen(sock, lambda connection: ImapSession(service, connection).run())
        self._ready.set()
        await self._stop.wait()
        await server.drain(5)
        await login.close()
        store.close()
        watch.close()
        journal.close()
        await directory.close()


class RawClient:
    """Sends what it is told, and returns responses as lists of bytes, literals included."""

    def __init__(self, port: int, *, login: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self._socket.makefile("rb")
        self._count = 0
        self.greeting = self.response()
        if login:
            assert self.ok("LOGIN alice@example.test secret") is not None

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def response(self) -> bytes:
        """One response, with its literals."""
        response = b""
        while True:
            line = self._file.readline()
            response += line
            if not line.endswith(b"}\r\n"):
                return response
            response += self._file.read(int(line[line.rindex(b"{") + 1 : -3]))

    def until(self, tag: bytes) -> tuple[list[bytes], bytes]:
        """The untagged responses, and the tagged one without its tag."""
        untagged = []
        while not (response := self.response()).startswith(tag + b" "):
            assert response, f"the connection ended after {untagged}"
            untagged.append(response)
        return untagged, response[len(tag) + 1 :].rstrip()

    def command(self, line: str | bytes) -> tuple[list[bytes], bytes]:
        self._count += 1
        tag = b"t%d" % self._count
        self.send(tag + b" " + (line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.until(tag)

    def ok(self, line: str | bytes) -> list[bytes]:
        """The untagged responses of a command that has to succeed."""
        untagged, tagged = self.command(line)
        assert tagged.startswith(b"OK"), (line, tagged)
        return untagged

    def refused(self, line: str | bytes) -> bytes:
        """The tagged response of a command that has to fail."""
        tagged = self.command(line)[1]
        assert not tagged.startswith(b"OK"), (line, tagged)
        return tagged

    def append(self, message: bytes, mailbox: str = "INBOX", flags: str = "") -> bytes:
        untagged, tagged = self.command(
            b"APPEND %b %b{%d+}\r\n%b" % (mailbox.encode(), flags.encode(), len(message), message)
        )
        assert untagged == []
        return tagged

    def start_tls(self, authority: trustme.CA, behind: bytes = b"") -> None:
        """Change to TLS; ``behind`` is sent in clear with the command."""
        self.send(b"s STARTTLS\r\n" + behind)
        assert self.until(b"s")[1].startswith(b"OK")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def start(tmp_path):
    """``start(imap=…)``: a service with these settings."""
    running: list[LiveImap] = []

    def begin(**changes: object) -> LiveImap:
        running.append(LiveImap(str(tmp_path / str(len(running))), **changes).start())
        return running[-1]

    yield begin
    for live in running:
        live.stop()


@pytest.fixture
def live(start):
    """A service as it comes."""
    return start()


@pytest.fixture
def connect():
    """``connect(live)``: a client, logged in as alice."""
    clients: list[RawClient] = []

    def begin(live: LiveImap, *, login: bool = True) -> RawClient:
        clients.append(RawClient(live.port, login=login))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()


@pytest.fixture
def client(live, connect):
    """A client of ``live``, logged in as alice."""
    return connect(live)
