"""Logging in over SMTP: what is offered, and what is said when it can't be now."""

import asyncio
import smtplib
import socket
from collections.abc import Callable

import pytest

from posthouse.base.errors import Reply, TryLater
from posthouse.config.settings import Auth
from posthouse.directory.model import StoredCredentials
from posthouse.protocols.smtp.server import ServerOptions
from posthouse.runtime.server import Server
from posthouse.servers.smtp import SmtpService
from posthouse.services.login import Login


class Accounts:
    """A directory that can't answer."""

    def __init__(self, trouble: TryLater) -> None:
        self.trouble = trouble

    async def credentials(self, email: str) -> StoredCredentials | None:
        raise self.trouble


class Reception:
    """Nobody relays."""

    def is_trusted(self, peer: str) -> bool:
        return False


def talk(with_client: Callable[[smtplib.SMTP], object], trouble: TryLater, *mechanisms: str) -> object:
    """What a client gets out of a server that has trouble with its directory."""

    async def main() -> object:
        login = Login(Accounts(trouble), Auth(mechanisms=mechanisms), hostname="h", secret=b"k" * 32)
        service = SmtpService(ServerOptions("h"), Reception(), login, None, 30.0, is_submission=True)  # type: ignore[arg-type]
        server, sock = Server(), socket.create_server(("127.0.0.1", 0))
        await server.listen(sock, service.serve)

        def run() -> object:
            with smtplib.SMTP("127.0.0.1", sock.getsockname()[1], timeout=30) as client:
                client.ehlo()
                return with_client(client)

        try:
            return await asyncio.to_thread(run)
        finally:
            await server.drain(5.0)
            await login.close()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("trouble", "answer"),
    [
        (TryLater("database away"), (454, b"4.7.0 Temporary authentication failure, please try again later")),
        (
            TryLater("guard", Reply(454, "4.7.0", "Too many failures: 5 minutes")),
            (454, b"4.7.0 Too many failures: 5 minutes"),
        ),
        (
            TryLater("wrong", Reply(535, "4.7.0", "No")),
            (454, b"4.7.0 Temporary authentication failure, please try again later"),
        ),
    ],
)
def test_trouble_is_temporary_and_says_how_long_where_it_knows(trouble: TryLater, answer: tuple[int, bytes]):
    def attempt(client: smtplib.SMTP) -> object:
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.login("alice@example.test", "secret")
        return caught.value.args

    assert talk(attempt, trouble, "PLAIN") == answer


def test_apop_is_no_mechanism_here():
    offered = talk(lambda client: client.esmtp_features["auth"].split(), TryLater(""), "APOP", "CRAM-MD5", "PLAIN")
    assert set(offered) == {"CRAM-MD5", "PLAIN"}  # type: ignore[call-overload]
