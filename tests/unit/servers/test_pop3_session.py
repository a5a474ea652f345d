"""POP3 sessions over real sockets, most of them with Python's own client."""

import asyncio
import os
import poplib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trustme

from posthouse.base.errors import Reply, TryLater
from posthouse.config.settings import Auth
from posthouse.directory.model import Account, StoredCredentials
from posthouse.protocols.sasl import client as sasl
from posthouse.runtime.server import Server
from posthouse.servers.pop3 import SLICE_BYTES, Pop3Service
from posthouse.services.login import Login
from posthouse.store.errors import TooSoon
from posthouse.store.maildroplock import MaildropLock

ALICE = "alice@example.test"
SMALL = b"Subject: small\r\n\r\n.dot\r\nlast\r\n"
MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")
LARGE = b"Subject: large\r\n\r\n" + b".%070d\r\n" % 0 * 20_000


class Directory:
    """One account."""

    def __init__(self) -> None:
        self.is_enabled = True

    async def credentials(self, email: str) -> StoredCredentials | None:
        return StoredCredentials(ALICE, "secret", "", "", self.is_enabled) if email == ALICE else None

    async def account(self, email: str) -> Account | None:
        return Account(ALICE, "", 1001, 1001, "", "example.test/alice/", "", self.is_enabled)


@dataclass
class Message:
    uid: int
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def body(self, start: int = 0, end: int | None = None) -> bytes:
        return self.data[start:end]


@dataclass
class Store:
    """A mailbox in memory, with what a POP3 session needs of it; also its account's store and its view."""

    directory: str
    messages: dict[int, Message] = field(default_factory=dict)
    fails: Exception | None = None
    unreadable: int = 0
    uidvalidity: int = 7
    largest_slice: int = 0

    def account(self, maildir: str, *, quota: str = "") -> "Store":
        assert maildir == "example.test/alice/"
        return self

    async def lock_maildrop(self, delay_seconds: int = 0) -> MaildropLock:
        return MaildropLock(self.directory, delay_seconds)

    async def select(self, name: str) -> "Store":
        assert name == "INBOX"
        if self.fails:
            raise self.fails
        return self

    @property
    def uids(self) -> list[int]:
        return sorted(self.messages)

    async def fetch(self, uids: Sequence[int], want: object, render: Callable) -> AsyncIterator[list]:
        if self.fails:
            raise self.fails
        if self.unreadable in uids:
            raise TryLater("bad sector")
        found = [render(self.messages[uid]) for uid in uids if uid in self.messages]
        slices = [part for each in found for part in each if isinstance(part, bytes)]
        self.largest_slice = max([self.largest_slice, *map(len, slices)])
        yield found

    async def uidls(self) -> dict[int, str]:
        return {}

    async def store_flags(self, uids: Sequence[int], flags: frozenset[str], mode: str) -> list:
        assert (flags, mode) == ({"\\Deleted"}, "add")
        if self.fails:
            raise self.fails
        return []

    async def expunge(self, uids: Sequence[int]) -> None:
        for uid in uids:
            self.messages.pop(uid, None)

    def close(self) -> None:
        pass


@dataclass
class Served:
    """A server of one POP3 port."""

    port: int
    store: Store
    directory: Directory
    server: Server

    def pop3(self) -> poplib.POP3:
        return poplib.POP3("127.0.0.1", self.port, timeout=30)

    def logged_in(self) -> poplib.POP3:
        client = self.pop3()
        client.user(ALICE)
        try:
            client.pass_("secret")
        except poplib.error_proto:
            client.close()
            raise
        return client

    def talk(self, data: bytes) -> bytes:
        """Send everything, finish, and read all there is."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(
        str(tmp_path), {1: Message(1, SMALL), 5: Message(5, LARGE), 9: Message(9, b"Subject: third\r\n\r\n")}
    )


@pytest.fixture
def serve(store: Store, authority: trustme.CA) -> Callable:
    """``serve(talk)`` runs ``talk(served)`` in a thread while the server runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    @asynccontextmanager
    async def running(auth: Auth, timeout_seconds: float, login_delay_seconds: int) -> AsyncIterator[Served]:
        directory, server = Directory(), Server()
        login = Login(directory, auth, hostname="mail.example.test", secret=b"k" * 32, failure_seconds=0.0)
        kept = (login, directory, store, context, timeout_seconds, login_delay_seconds)
        service = Pop3Service("mail.example.test", *kept)  # type: ignore[arg-type]
        sock = socket.create_server(("127.0.0.1", 0))
        await server.listen(sock, service.serve)
        try:
            yield Served(sock.getsockname()[1], store, directory, server)
        finally:
            await server.drain(5.0)
            await login.close()

    def run(
        talk: Callable[[Served], object],
        auth: Auth | None = None,
        timeout_seconds: float = 30.0,
        login_delay_seconds: int = 0,
    ) -> object:
        async def main() -> object:
            offered = auth or Auth(mechanisms=MECHANISMS)
            async with running(offered, timeout_seconds, login_delay_seconds) as served:
                return await asyncio.to_thread(talk, served)

        return asyncio.run(main())

    return run


def test_whole_session_of_an_ordinary_client(serve: Callable, store: Store):
    def talk(served: Served) -> None:
        client = served.logged_in()
        assert client.stat() == (3, len(SMALL) + len(LARGE) + 18)
        assert client.list()[1] == [b"1 %d" % len(SMALL), b"2 %d" % len(LARGE), b"3 18"]
        assert client.uidl()[1] == [b"1 0000000100000007", b"2 0000000500000007", b"3 0000000900000007"]
        for number, message in ((1, SMALL), (2, LARGE)):
            assert b"\r\n".join(client.retr(number)[1]) + b"\r\n" == message
        assert client.top(1, 1)[1] == [b"Subject: small", b"", b".dot"]
        assert len(client.top(2, 10_000)[1]) == 10_002
        client.dele(2)
        assert client.quit() == b"+OK Bye"

    serve(talk)
    assert list(store.messages) == [1, 9]
    assert store.largest_slice == SLICE_BYTES


def test_messages_are_taken_in_any_order(serve: Callable, store: Store):
    def talk(served: Served) -> None:
        client = served.logged_in()
        texts = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in (3, 1, 1, 2, 3, 2)]
        third = store.messages[9].data
        assert texts == [third, SMALL, SMALL, LARGE, third, LARGE]
        client.quit()

    serve(talk)


def test_a_message_that_cannot_be_read_is_only_its_own_trouble(serve: Callable, store: Store):
    def talk(served: Served) -> None:
        client = served.logged_in()
        store.unreadable = 5
        assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == SMALL
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            client.retr(2)
        assert client.retr(3)[0].startswith(b"+OK")
        client.quit()

    serve(talk)


def test_stls_then_login(serve: Callable, authority: trustme.CA):
    """RFC 2595 §4; from a network that isn't trusted there is no password without it."""

    def talk(served: Served) -> None:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        client = poplib.POP3("localhost", served.port, timeout=30)
        assert "SASL" not in client.capa()
        assert "USER" not in client.capa()
        with pytest.raises(poplib.error_proto):
            client.user(ALICE)
        client.stls(context)
        assert "STLS" not in client.capa()
        assert client.capa()["SASL"][-2:] == ["PLAIN", "LOGIN"]
        client.user(ALICE)
        client.pass_("secret")
        assert client.stat()[0] == 3
        client.quit()

    serve(talk, Auth(trusted_networks=()))


def test_failed_handshake_ends_the_session(serve: Callable, capsys: pytest.CaptureFixture[str]):
    def talk(served: Served) -> bytes:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
            sock.sendall(b"STLS\r\n")
            while b"TLS" not in (answer := sock.recv(1000)):
                pass
            sock.sendall(b"this is no TLS\r\n" * 10)
            with suppress(ConnectionError):
                while sock.recv(1000):  # an alert, then the end
                    pass
            return answer

    assert "Begin TLS" in str(serve(talk))
    assert "session-failed" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_login_by_every_mechanism(serve: Callable, name: str):
    def talk(served: Served) -> bytes:
        import base64

        ours = sasl.mechanism(name, ALICE, "secret", nonce=b"n" * 18)
        assert ours is not None
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock, sock.makefile("rwb") as file:
            file.readline()
            initial = ours.initial()
            extra = b"" if initial is None else b" " + base64.b64encode(initial)
            file.write(b"AUTH " + name.encode() + extra + b"\r\n")
            file.flush()
            while (line := file.readline()).startswith(b"+ "):
                file.write(base64.b64encode(ours.respond(base64.b64decode(line[2:]))) + b"\r\n")
                file.flush()
            return line

    assert str(serve(talk)).startswith("b'+OK 3 messages")


def test_login_by_apop(serve: Callable):
    """RFC 1939 §7; the same timestamp serves the second attempt, and it is not announced as a SASL mechanism."""

    def talk(served: Served) -> None:
        client = served.pop3()
        assert "APOP" not in client.capa()["SASL"]
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\] Wrong login or password"):
            client.apop(ALICE, "guess")
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\] Wrong login or password"):
            client.apop("nobody@example.test", "secret")
        assert client.apop(ALICE, "secret").startswith(b"+OK 3 messages")
        client.quit()

    serve(talk, Auth(mechanisms=("APOP", "PLAIN")))


def test_no_timestamp_where_apop_is_not_offered(serve: Callable):
    def talk(served: Served) -> None:
        client = served.pop3()
        with pytest.raises(poplib.error_proto, match="not supported"):
            client.apop(ALICE, "secret")
        client.close()

    serve(talk)
    serve(talk, Auth(mechanisms=("APOP",), trusted_networks=()))


def test_login_that_has_to_wait_says_so(serve: Callable):
    def talk(served: Served) -> None:
        async def credentials(email: str) -> StoredCredentials | None:
            raise TryLater("shut out", Reply(454, "4.7.0", "Too many failed logins, try again in 5 minutes"))

        served.directory.credentials = credentials  # type: ignore[method-assign]
        with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\] Too many failed logins, try again in 5 min"):
            served.logged_in()

    serve(talk)


def test_wrong_password_is_refused_until_it_is_too_often(serve: Callable):
    attempt = f"USER {ALICE}\r\nPASS wrong\r\n".encode()
    answer = serve(lambda served: served.talk(attempt * 12))
    assert isinstance(answer, bytes)
    assert answer.count(b"-ERR [AUTH] Wrong login or password\r\n") == 10
    assert b"secret" not in answer


def test_logins_are_so_far_apart_as_login_delay_says(tmp_path):
    """RFC 2449 §6.5, §8.1.1: only who may log in hears of it, and whoever comes too soon need not wait for longer."""
    directory = str(tmp_path)
    file = tmp_path / "posthouse.pop3.lock"
    MaildropLock(directory).close()
    MaildropLock(directory, 60).close()
    for age in (10, 59):
        os.utime(file, (0, time.time() - age))
        with pytest.raises(TooSoon, match="less than 60 s"):
            MaildropLock(directory, 60)
    for age in (61, -100):  # and when the clock has been set back
        os.utime(file, (0, time.time() - age))
        MaildropLock(directory, 60).close()
        with pytest.raises(TooSoon):
            MaildropLock(directory, 60)
        MaildropLock(directory).close()


def test_who_comes_back_too_soon_is_told_so(serve: Callable):
    def talk(served: Served) -> None:
        client = served.logged_in()
        assert client.capa()["LOGIN-DELAY"] == ["3600"]
        client.quit()
        with pytest.raises(poplib.error_proto, match=r"^b'-ERR \[LOGIN-DELAY\] Log in again 3600 seconds after"):
            served.logged_in()
        assert b"-ERR [AUTH]" in served.talk(f"USER {ALICE}\r\nPASS wrong\r\n".encode())

    serve(talk, login_delay_seconds=3600)


def test_second_session_finds_the_maildrop_in_use(serve: Callable):
    """RFC 1939 §4; RFC 2449 §8.1.1."""

    def talk(served: Served) -> None:
        first = served.logged_in()
        with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
            served.logged_in()
        first.quit()
        served.logged_in().quit()

    serve(talk)


def test_connection_that_breaks_deletes_nothing_and_frees_the_maildrop(serve: Callable, store: Store):
    """RFC 1939 §6."""

    def talk(served: Served) -> bytes:
        answer = served.talk(f"USER {ALICE}\r\nPASS secret\r\nDELE 1\r\n".encode())
        served.logged_in().quit()
        return answer

    assert b"+OK Marked" in serve(talk)
    assert len(store.messages) == 3


def test_pipelined_session_is_answered_in_order(serve: Callable):
    """RFC 2449 §6.6."""
    commands = f"USER {ALICE}\r\nPASS secret\r\nSTAT\r\nRETR 1\r\nRETR 3\r\nNOOP\r\nQUIT\r\n".encode()
    answer = serve(lambda served: served.talk(commands))
    assert isinstance(answer, bytes)
    assert answer.endswith(
        b"+OK 30 octets\r\nSubject: small\r\n\r\n..dot\r\nlast\r\n.\r\n"
        b"+OK 18 octets\r\nSubject: third\r\n\r\n.\r\n+OK Done\r\n+OK Bye\r\n"
    )


def test_message_that_another_session_removed_is_missed_politely(serve: Callable):
    def talk(served: Served) -> None:
        client = served.logged_in()
        del served.store.messages[1]
        with pytest.raises(poplib.error_proto, match="removed"):
            client.retr(1)
        assert client.retr(3)[1] == [b"Subject: third", b""]
        client.quit()

    serve(talk)


def test_message_that_vanishes_half_way_breaks_the_connection(serve: Callable, store: Store):
    """Anything else would pass for the whole message."""
    store.messages[5].body = lambda start, end: store.messages.pop(5).data[start:end]  # type: ignore[method-assign]
    commands = f"USER {ALICE}\r\nPASS secret\r\nRETR 2\r\nQUIT\r\n".encode()

    def talk(served: Served) -> bytes:
        try:
            return served.talk(commands)
        except ConnectionResetError:
            return b""

    answer = serve(talk)
    assert isinstance(answer, bytes)
    assert not answer.endswith(b".\r\n")
    assert b"Bye" not in answer


@pytest.mark.parametrize("command", ["RETR 1", "QUIT"])
@pytest.mark.parametrize("error", [TryLater("disk trouble"), ZeroDivisionError("a bug")])
def test_trouble_of_ours_is_temporary_and_shows_no_traceback(
    serve: Callable, error: Exception, command: str, capsys: pytest.CaptureFixture[str]
):
    def talk(served: Served) -> bytes:
        client = served.logged_in()
        client.dele(3)
        served.store.fails = error
        with pytest.raises(poplib.error_proto) as refusal:
            client._shortcmd(command)
        client.close()
        return refusal.value.args[0]

    answer = serve(talk)
    assert isinstance(answer, bytes)
    assert answer.startswith(b"-ERR [SYS/TEMP] ")
    assert b"Zero" not in answer
    assert b"disk" not in answer
    assert "disk trouble" in (printed := "".join(capsys.readouterr())) or "ZeroDivisionError" in printed


def test_store_that_cannot_open_is_temporary_and_keeps_no_lock(serve: Callable):
    def talk(served: Served) -> None:
        served.store.fails = TryLater("index is locked")
        with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
            served.logged_in()
        served.store.fails = None
        served.logged_in().quit()

    serve(talk)


def test_disabled_account_is_refused_like_a_wrong_password(serve: Callable):
    def talk(served: Served) -> None:
        served.directory.is_enabled = False
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\] Wrong login or password"):
            served.logged_in()

    serve(talk)


def test_silent_client_is_left_without_a_word(serve: Callable, store: Store):
    """RFC 1939 §3: after the autologout timer nothing is said and nothing deleted."""

    def talk(served: Served) -> bytes:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
            sock.sendall(f"USER {ALICE}\r\nPASS secret\r\nDELE 1\r\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b""))

    assert str(serve(talk, timeout_seconds=0.3)).endswith("+OK Marked to be deleted\\r\\n'")
    assert len(store.messages) == 3


def test_draining_server_ends_idle_sessions(serve: Callable):
    def talk(served: Served) -> bytes:
        client = served.logged_in()
        loop = next(iter(served.server._sessions)).loop
        asyncio.run_coroutine_threadsafe(served.server.drain(5.0), loop).result(10)
        said = client.sock.recv(100)
        client.close()
        return said

    assert serve(talk) == b""


GARBAGE = (
    b"\0" * 100_000,
    b"\xff\xfe\r\n" * 1000,
    b"A" * 1_000_000,
    b"AUTH PLAIN " + b"A" * 8000 + b"\r\n",
    b"AUTH SCRAM-SHA-256\r\n" * 50,
    f"USER {ALICE}\r\nPASS \xff\0\r\n".encode("latin-1"),
)


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_gets_an_error_and_the_end(serve: Callable, data: bytes, capsys: pytest.CaptureFixture[str]):
    def talk(served: Served) -> bytes:
        try:
            answer = served.talk(data)
        except OSError:  # closed while we still wrote
            answer = b"-ERR"
        served.logged_in().quit()
        return answer

    answer = serve(talk)
    assert isinstance(answer, bytes)
    assert b"-ERR" in answer
    assert "Traceback" not in "".join(capsys.readouterr())
