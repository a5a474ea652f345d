"""What other programs ask: Dovecot's auth protocol and saslauthd's over real sockets, with the real logins behind."""

import asyncio
import base64
import functools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse.base.errors import TryLater
from posthouse.config.settings import Auth, Settings
from posthouse.directory.model import AppPassword, Resolution, StoredCredentials
from posthouse.protocols.socketmap.server import SocketmapEngine
from posthouse.protocols.tcptable.server import TcpTableEngine
from posthouse.runtime.server import Server
from posthouse.servers import dovecotauth, programs
from posthouse.servers.dovecotauth import DovecotAuthService
from posthouse.servers.lookups import LookupService
from posthouse.servers.saslauthd import SaslauthdService
from posthouse.services.login import Login
from posthouse.services.passwords import new_app_password
from posthouse.services.postfixmaps import PostfixMaps

ALICE = "alice@example.test"
HELLO = b"VERSION\t1\t1\nCPID\t4711\n"


def in_loop(test):
    """A test that is a coroutine, run."""

    @functools.wraps(test)
    def run(**arguments):
        asyncio.run(test(**arguments))

    return run


class Accounts:
    """One account; a look-up waits while ``held`` is not set."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.app_passwords: tuple[AppPassword, ...] = ()
        self.held = asyncio.Event()
        self.held.set()

    async def credentials(self, email: str) -> StoredCredentials | None:
        if email.startswith("slow"):
            await self.held.wait()
        if self.fails:
            raise self.fails
        return StoredCredentials(ALICE, "secret", "", "", True, self.app_passwords) if email == ALICE else None

    async def is_disabled(self, domain: str) -> bool:
        return domain == "off.test"

    async def used_app_password(self, number: int, peer_address: str) -> None:
        pass

    async def lookup(self, table: str, key: str) -> tuple[str, ...] | None:
        if self.fails:
            raise self.fails
        return ("bob@example.org",) if (table, key) == ("virtual", ALICE) else None

    async def account(self, email: str) -> None:
        return None

    async def resolve(self, address: str) -> Resolution:
        return Resolution(())


class Served:
    """A server of one of the protocols, and a connection to it."""

    def __init__(self, accounts: Accounts, server: Server, reader: asyncio.StreamReader, writer) -> None:
        self.accounts, self.server, self.reader, self.writer = accounts, server, reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> list[str]:
        return (await asyncio.wait_for(self.reader.readline(), 30)).decode().rstrip("\n").split("\t")

    async def ask(self, number: int, mechanism: str, response: bytes | None = None, *more: str) -> None:
        words = ["AUTH", str(number), mechanism, "service=smtp", *more]
        if response is not None:
            words.append("resp=" + base64.b64encode(response).decode())
        await self.say("\t".join(words).encode() + b"\n")


@asynccontextmanager
async def serving(make, auth: Auth | None = None, address: str = "127.0.0.1") -> AsyncIterator[Served]:
    accounts = Accounts()
    login = Login(
        accounts,
        auth or Auth(mechanisms=("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")),
        hostname="mail.example.test",
        secret=b"s" * 16,
        failure_seconds=0.0,
    )
    maps = PostfixMaps(accounts, Settings(hostname="mail.example.test"))
    service = {"dovecot": lambda: DovecotAuthService(login), "saslauthd": lambda: SaslauthdService(login)}.get(
        make, lambda: LookupService(maps, make)
    )()
    server = Server()
    listener = socket.create_server((address, 0))
    listener.setblocking(False)
    await server.listen(listener, service.serve)
    reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
    try:
        yield Served(accounts, server, reader, writer)
    finally:
        writer.close()
        await server.drain(5)
        await login.close()


async def greeted(served: Served) -> list[list[str]]:
    """What the server says first."""
    await served.say(HELLO)
    lines = [await served.line()]
    while lines[-1] != ["DONE"]:
        lines.append(await served.line())
    return lines


def plain(login: str = ALICE, password: str = "secret") -> bytes:
    return f"\0{login}\0{password}".encode()


@in_loop
async def test_everything_that_a_client_may_use_is_announced():
    auth = Auth(mechanisms=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "APOP"))
    async with serving("dovecot", auth) as served:
        lines = await greeted(served)
    assert [line[1] for line in lines if line[0] == "MECH"] == ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]


@in_loop
async def test_the_right_password_is_ok_and_a_wrong_one_fails():
    async with serving("dovecot") as served:
        await greeted(served)
        await served.ask(1, "PLAIN", plain("Alice@Example.TEST"), "secured", "rip=192.0.2.1")
        assert await served.line() == ["OK", "1", f"user={ALICE}"]
        await served.ask(2, "PLAIN", plain(password="wrong"), "secured", "rip=192.0.2.1")
        assert await served.line() == ["FAIL", "2", f"user={ALICE}", "reason=Wrong login or password"]


@in_loop
async def test_a_dialogue_goes_to_its_end():
    async with serving("dovecot") as served:
        await greeted(served)
        await served.ask(7, "LOGIN", None, "secured")
        assert await served.line() == ["CONT", "7", base64.b64encode(b"Username:").decode()]
        await served.say(b"CONT\t7\t" + base64.b64encode(ALICE.encode()) + b"\n")
        assert await served.line() == ["CONT", "7", base64.b64encode(b"Password:").decode()]
        await served.say(b"CONT\t7\t" + base64.b64encode(b"secret") + b"\n")
        assert await served.line() == ["OK", "7", f"user={ALICE}"]


@pytest.mark.parametrize("more", [("rip=192.0.2.1",), (), ("rip=nonsense",), ("rip=127.0.0.1", "secured")])
@in_loop
async def test_what_the_clients_own_connection_does_not_permit_is_refused(more):
    """The program's connection to us is from this host; the client's need not be."""
    async with serving("dovecot") as served:
        await greeted(served)
        await served.ask(1, "PLAIN", plain(), *more)
        assert (await served.line())[0] == ("OK" if "secured" in more else "FAIL")


@in_loop
async def test_a_mechanism_that_is_not_offered_fails_that_login_alone():
    async with serving("dovecot", Auth(mechanisms=("PLAIN", "SCRAM-SHA-256-PLUS"))) as served:
        await greeted(served)
        await served.ask(1, "CRAM-MD5", None, "secured")
        await served.ask(2, "SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=a,r=b", "secured")
        await served.ask(3, "PLAIN", plain(), "secured")
        assert [(await served.line())[:2] for _ in range(3)] == [["FAIL", "1"], ["FAIL", "2"], ["OK", "3"]]


@in_loop
async def test_a_slow_login_holds_up_no_other():
    async with serving("dovecot") as served:
        await greeted(served)
        served.accounts.held.clear()
        await served.ask(1, "PLAIN", plain("slow@example.test"), "secured")
        await served.ask(2, "PLAIN", plain(), "secured")
        assert (await served.line())[:2] == ["OK", "2"]
        await served.say(b"CANCEL\t1\n")
        await served.ask(3, "PLAIN", plain(), "secured")
        assert (await served.line())[:2] == ["OK", "3"]


@in_loop
async def test_logins_that_go_on_are_answered_before_the_server_stops():
    async with serving("dovecot") as served:
        await greeted(served)
        served.accounts.held.clear()
        await served.ask(1, "PLAIN", plain("slow@example.test"), "secured")
        await served.ask(2, "PLAIN", plain(), "secured")
        await served.line()
        draining = asyncio.create_task(served.server.drain(30))
        served.accounts.held.set()
        assert (await served.line())[:3] == ["FAIL", "1", "user=slow@example.test"]
        await draining


@in_loop
async def test_trouble_of_ours_is_temporary():
    async with serving("dovecot") as served:
        await greeted(served)
        served.accounts.fails = TryLater("no database")
        await served.ask(1, "PLAIN", plain(), "secured")
        assert (await served.line())[:4] == ["FAIL", "1", "temp", "code=temp_fail"]
        served.accounts.fails = RuntimeError("a bug")
        await served.ask(2, "PLAIN", plain(), "secured")
        assert (await served.line())[:4] == ["FAIL", "2", "temp", "code=temp_fail"]


@in_loop
async def test_a_program_that_does_not_speak_the_protocol_is_shown_the_door(monkeypatch):
    seen = []
    monkeypatch.setattr(dovecotauth.log, "warning", lambda event, **facts: seen.append((event, facts["reason"])))
    async with serving("dovecot") as served:
        await served.say(b"EHLO there\r\n")
        assert (await served.reader.read()).endswith(b"DONE\n")
    assert seen == [("auth-client-broken", "VERSION has to come first")]


def question(*strings: str) -> bytes:
    return b"".join(len(part).to_bytes(2, "big") + part for part in map(str.encode, strings))


@pytest.mark.parametrize(
    ("strings", "answer"),
    [
        ((ALICE, "secret", "imap", ""), b"OK"),
        (("alice", "secret", "sshd@192.0.2.1", "example.test"), b"OK"),
        ((ALICE, "secret", "smtp", "elsewhere.test"), b"OK"),
        ((ALICE, "wrong", "imap", ""), b"NO authentication failed"),
        (("alice", "secret", "imap", ""), b"NO authentication failed"),
        (("", "", "", ""), b"NO authentication failed"),
    ],
)
@in_loop
async def test_saslauthd_is_asked_about_a_password(strings, answer):
    async with serving("saslauthd") as served:
        await served.say(question(*strings))
        assert await served.reader.read() == len(answer).to_bytes(2, "big") + answer


@pytest.mark.parametrize(("service", "answer"), [("imap", b"OK"), ("smtp", b"NO"), ("sshd", b"NO")])
@in_loop
async def test_an_app_password_opens_what_it_is_for_and_no_shell(service, answer):
    async with serving("saslauthd") as served:
        password, hashed = new_app_password()
        served.accounts.app_passwords = (AppPassword(1, "phone", frozenset({"imap", "web"}), hashed),)
        await served.say(question(ALICE, password, service, ""))
        assert (await served.reader.read())[2:4] == answer


@in_loop
async def test_saslauthd_says_so_where_it_cannot_tell():
    async with serving("saslauthd") as served:
        served.accounts.fails = TryLater("no database")
        await served.say(question(ALICE, "secret", "imap", ""))
        assert (await served.reader.read())[2:].startswith(b"NO temporary failure: ")


@pytest.mark.parametrize(
    ("service", "protocol"),
    [
        ("smtp", "smtp"),
        ("submission", "smtp"),
        ("Imap", "imap"),
        ("sieve", "imap"),
        ("pop", "pop3"),
        ("sshd", "other"),
    ],
)
def test_what_a_service_is_decides_which_app_passwords_are_for_it(service, protocol):
    assert programs.peer(service, "", is_tls=True).protocol == protocol


def test_addresses_are_in_their_usual_form_or_none():
    given = ("192.0.2.1", "::FFFF:192.0.2.1", "2001:DB8::0:1", "fe80::1%eth0", "host.example.test", "")
    assert [*map(programs.ip_text, given)] == ["192.0.2.1", "192.0.2.1", "2001:db8::1", "fe80::1", "", ""]


@in_loop
async def test_look_ups_are_answered_in_their_order():
    async with serving(SocketmapEngine) as served:
        await served.say(b"26:virtual alice@example.test,20:virtual a@elsewhere.,6:clear ,")
        assert await served.reader.readuntil(b"NOTFOUND ,") == b"18:OK bob@example.org,9:NOTFOUND ,"
        assert (await served.reader.readuntil(b",")).partition(b":")[2].startswith(b"PERM there is no such map")


@in_loop
async def test_a_look_up_that_cannot_be_answered_is_to_be_asked_again():
    async with serving(SocketmapEngine) as served:
        for trouble in (TryLater("no database"), RuntimeError("a bug")):
            served.accounts.fails = trouble
            await served.say(b"26:virtual alice@example.test,")
            length = int((await served.reader.readuntil(b":"))[:-1])
            assert (await served.reader.readexactly(length + 1)).startswith(b"TEMP ")


@in_loop
async def test_a_table_has_an_address_of_its_own():
    async with serving(functools.partial(TcpTableEngine, "virtual")) as served:
        await served.say(b"get alice@example.test\nget bob@example.test\n")
        assert [await served.reader.readline() for _ in range(2)] == [b"200 bob@example.org\n", b"500 not found\n"]
