"""POP3 sessions on real Maildirs, with a real directory."""

import asyncio
import poplib
import socket
from collections.abc import Callable

import pytest

from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account, Actor
from posthouse.directory.tables import Tables
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.runtime.server import Server
from posthouse.servers.pop3 import Pop3Service
from posthouse.services.login import Login
from posthouse.services.passwords import new_secrets
from posthouse.store.store import Store

ALICE = "alice@example.test"
SECRETS = new_secrets("secret")
MESSAGES = [
    b"Subject: first\r\n\r\n.dot\r\n",
    b"Subject: bare\r\n\r\nLF\n.\nand more",
    b"Subject: large\r\n\r\n" + b".%070d\r\n" % 0 * 20_000,
]


class Host:
    """A host with one account, served for as long as ``run`` runs."""

    def __init__(self, directory: str) -> None:
        self.settings = Settings(hostname="mail.example.test", data_dir=directory)
        self.maildir = f"{directory}/mail/example.test/alice"

    def run(self, talk: Callable[[Callable[[], poplib.POP3]], object], deliver: list[bytes] | None = None) -> object:
        return asyncio.run(self._run(talk, deliver or []))

    async def _run(self, talk: Callable[[Callable[[], poplib.POP3]], object], deliver: list[bytes]) -> object:
        directory = Directory(self.settings)
        await directory.open()
        if await directory.account(ALICE) is None:

            async def add(tables: Tables) -> None:
                await tables.add_account(Account(ALICE, "", 1001, 1001, "", "example.test/alice/", "", True))
                await tables.set_secrets(ALICE, *SECRETS)
                await tables.audit("add", ALICE)

            await directory.change(Actor("test"), add)
        journal = Journal(self.settings.path("journal/worker"))
        journal.start()
        store = Store(self.settings.path("mail"), journal, None, hostname="mail.example.test")
        login = Login(directory, self.settings.auth, hostname="mail.example.test", secret=b"k" * 32)
        service = Pop3Service("mail.example.test", login, directory, store, None, 30.0)
        server = Server()
        sock = socket.create_server(("127.0.0.1", 0))
        await server.listen(sock, service.serve)
        port = sock.getsockname()[1]

        def connect() -> poplib.POP3:
            client = poplib.POP3("127.0.0.1", port, timeout=30)
            client.user(ALICE)
            try:
                client.pass_("secret")
            except poplib.error_proto:
                client.close()
                raise
            return client

        try:
            for message in deliver:
                content = Content.of(message)
                put = await store.plan_delivery("example.test/alice/", content, b"")
                await journal.commit(content, [put])
            return await asyncio.to_thread(talk, connect)
        finally:
            await server.drain(5.0)
            await login.close()
            store.close()
            journal.close()
            await directory.close()


@pytest.fixture
def host(tmp_path) -> Host:
    (tmp_path / "mail").mkdir()
    return Host(str(tmp_path))


def test_mail_is_fetched_as_it_was_delivered(host: Host):
    def talk(connect: Callable[[], poplib.POP3]) -> None:
        client = connect()
        assert client.stat() == (3, sum(map(len, MESSAGES)))
        assert b"\r\n".join(client.retr(1)[1]) == b"Subject: first\r\n\r\n.dot"
        assert client.retr(2)[1] == [b"Subject: bare", b"", b"LF", b".", b"and more"]
        assert b"\r\n".join(client.retr(3)[1]) + b"\r\n" == MESSAGES[2]
        assert client.top(3, 2)[1] == MESSAGES[2].split(b"\r\n")[:4]
        client.quit()

    host.run(talk, MESSAGES)


def test_account_without_mail_has_an_empty_maildrop(host: Host):
    """TABLES: a Maildir is made at the first delivery or login."""

    def talk(connect: Callable[[], poplib.POP3]) -> None:
        client = connect()
        assert client.stat() == (0, 0)
        assert client.list()[1] == []
        client.quit()

    host.run(talk)


def test_unique_ids_stay_and_are_never_given_again(host: Host):
    """RFC 1939 §7, UIDL; across sessions, restarts and deletions."""

    def delete_second(connect: Callable[[], poplib.POP3]) -> list[bytes]:
        client = connect()
        listed = client.uidl()[1]
        client.dele(2)
        assert client.quit().startswith(b"+OK")
        return [line.split(b" ")[1] for line in listed]

    def listed(connect: Callable[[], poplib.POP3]) -> list[bytes]:
        client = connect()
        found = [line.split(b" ")[1] for line in client.uidl()[1]]
        client.quit()
        return found

    before = host.run(delete_second, MESSAGES)
    assert isinstance(before, list)
    after = host.run(listed, [MESSAGES[0]])
    assert isinstance(after, list)
    assert after[:2] == [before[0], before[2]]
    assert len(after) == 3
    assert after[2] not in before
    assert all(len(one) <= 70 for one in after)


def test_maildrop_is_a_snapshot_and_exclusive(host: Host):
    """RFC 1939 §3 and §4; a session that breaks off deletes nothing and frees it."""

    def talk(connect: Callable[[], poplib.POP3]) -> None:
        first = connect()
        first.dele(1)
        with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
            connect()
        first.close()
        while True:  # until the server has seen the end
            try:
                second = connect()
            except poplib.error_proto:
                continue
            break
        assert second.stat()[0] == 3
        second.quit()

    host.run(talk, MESSAGES)
