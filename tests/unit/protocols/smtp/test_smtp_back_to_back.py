"""The client engine and the server engine talk to each other in memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.smtp_sessions import OK, Client, Server, converse

from posthouse.message.envelope import Recipient
from posthouse.protocols.smtp import events
from posthouse.protocols.smtp.client_events import Finished, Ready
from posthouse.protocols.smtp.transaction import TransactionRequest

REQUEST = TransactionRequest("a@example.org", (Recipient("b@example.com"), Recipient("nobody@example.com")), size=1)

line = st.text("ab. \r\n\x00é", max_size=12).map(str.encode)


def canonical(content: bytes) -> bytes:
    """Every line ending in CRLF."""
    text = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return (text if not text or text.endswith(b"\n") else text + b"\n").replace(b"\n", b"\r\n")


@given(messages=st.lists(st.lists(line, max_size=6), max_size=3), lmtp=st.booleans(), chunking=st.booleans())
@settings(max_examples=100, deadline=None)
def test_messages_arrive_as_they_were_sent(messages: list[list[bytes]], lmtp: bool, chunking: bool) -> None:
    server = Server(lmtp=lmtp)
    client = Client([(REQUEST, pieces) for pieces in messages], lmtp=lmtp, chunking=chunking)
    converse(client, server)
    assert server.messages == [canonical(b"".join(pieces)) for pieces in messages]
    assert [[reply.code for reply in outcome] for outcome in client.outcomes] == [[250, 550]] * len(messages)
    assert client.events[-1] == Finished()


@pytest.mark.parametrize("chunking", [False, True])
def test_a_megabyte_of_dots_arrives_as_it_was_sent(chunking: bool) -> None:
    content = b"." * 7 + b"\r\n.\r\n" * 200_000
    server = Server()
    client = Client([(REQUEST, [content[i : i + 4093] for i in range(0, len(content), 4093)])], chunking=chunking)
    converse(client, server)
    assert server.messages == [content]


@pytest.mark.parametrize("chunking", [False, True])
def test_a_message_that_is_too_large_fails_and_the_session_goes_on(chunking: bool) -> None:
    server = Server(max_size_bytes=1000)
    messages = [(REQUEST, [b"x" * 998 + b"\r\n"] * 3), (REQUEST, [b"small\r\n"])]
    client = Client(messages, chunking=chunking)
    converse(client, server)
    assert [[reply.status for reply in outcome] for outcome in client.outcomes] == [
        ["5.3.4", "5.1.1"],
        ["2.0.0", "5.1.1"],
    ]
    assert server.messages == [b"small\r\n"]


def test_every_parameter_arrives_as_it_was_sent() -> None:
    recipient = Recipient("ü@example.com", orcpt="utf-8;grün+x=\\@example.com", notify=frozenset({"FAILURE"}))
    request = TransactionRequest("a@b", (recipient,), 9, "8BITMIME", True, "HDRS", "id with = + and blanks")
    server = Server()
    client = Client([(request, [b"x"])])
    converse(client, server)
    sender = events.MailFrom("a@b", 9, "8BITMIME", True, "HDRS", "id with = + and blanks")
    assert server.events[1:3] == [sender, events.RcptTo("ü@example.com", recipient.notify, recipient.orcpt)]
    assert client.outcomes == [(OK,)]


def test_tls_then_authentication_then_a_message() -> None:
    class Submission(Client):
        """Asks for TLS, then logs in, as soon as it may."""

        def go_on(self) -> None:
            if not self.engine.tls:
                self.engine.starttls()
            elif not server.engine.authenticated:
                self.engine.authenticate("LOGIN")
            else:
                super().go_on()

    server = Server(starttls=True, auth=("LOGIN",), require_auth=True)
    client = Submission([(REQUEST, [b"x\r\n"])])
    converse(client, server)
    assert server.messages == [b"x\r\n"]
    assert sum(isinstance(event, Ready) for event in client.events) == 2
    assert "AUTH" in client.engine.capabilities
    assert client.engine.capabilities.auth == ("LOGIN",)
