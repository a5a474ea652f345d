"""The client engine against servers of every kind, played line by line."""

import pytest
from tests.smtp_sessions import Client

from posthouse.base.errors import Reply
from posthouse.message.envelope import Recipient
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.smtp.body import OutgoingBody
from posthouse.protocols.smtp.client import SmtpClientEngine
from posthouse.protocols.smtp.client_events import (
    AuthChallenge,
    AuthDone,
    Broken,
    Finished,
    Greeted,
    Ready,
    RecipientReply,
    SendBody,
    TlsReady,
    TlsRefused,
    TransactionDone,
    TurnedAway,
)
from posthouse.protocols.smtp.transaction import TransactionRequest

ALICE = Recipient("alice@example.net")
BOB = Recipient("bob@example.net")
REQUEST = TransactionRequest("me@example.org", (ALICE, BOB))
BODY = (b"Subject: x\r\n\r\nhello\r\n",)
EHLO = b"250-mx\r\n250 PIPELINING\r\n"
ALL = b"250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 CHUNKING\r\n"
MAIL = b"MAIL FROM:<me@example.org>\r\n"
RCPTS = b"RCPT TO:<alice@example.net>\r\nRCPT TO:<bob@example.net>\r\n"


def begun(*messages: TransactionRequest, ehlo: bytes = EHLO, **options: bool) -> tuple[Client, bytes]:
    """A client that has just sent the first command after its hello."""
    client = Client([(message, BODY) for message in messages or (REQUEST,)], **options)
    client.hear(b"220 mx\r\n")
    return client, client.hear(ehlo)


def statuses(client: Client) -> list[str]:
    """Code and enhanced status of the last transaction's replies."""
    return [f"{reply.code} {reply.status}".strip() for reply in client.outcomes[-1]]


def test_a_pipelined_session() -> None:
    """RFC 2920 §4."""
    client = Client([(REQUEST, BODY)])
    assert client.run() == b""
    assert client.hear(b"220-mx\r\n220 hello\r\n") == b"EHLO client.example.org\r\n"
    assert client.hear(EHLO) == MAIL + RCPTS + b"DATA\r\n"
    assert client.hear(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 No\r\n") == b""
    assert client.hear(b"354 Go\r\n") == BODY[0] + b".\r\n"
    assert client.hear(b"250 2.0.0 Queued\r\n") == b"QUIT\r\n"
    client.hear(b"221 Bye\r\n")
    no, queued = Reply(550, "5.1.1", "No"), Reply(250, "2.0.0", "Queued")
    assert client.events == [
        Greeted(Reply(220, "", "mx\nhello")),
        Ready(client.engine.capabilities),
        RecipientReply(0, Reply(250, "2.1.5", "Ok")),
        RecipientReply(1, no),
        SendBody(),
        TransactionDone((queued, no)),
        Finished(),
    ]


def test_without_pipelining_each_command_waits() -> None:
    client, said = begun(ehlo=b"250 mx\r\n")
    assert said == MAIL
    assert client.hear(b"250 Ok\r\n") == b"RCPT TO:<alice@example.net>\r\n"
    assert client.hear(b"250 Ok\r\n") == b"RCPT TO:<bob@example.net>\r\n"
    assert client.hear(b"450 4.2.0 Later\r\n") == b"DATA\r\n"
    assert client.hear(b"354 Go\r\n") == BODY[0] + b".\r\n"
    assert client.hear(b"250 Ok\r\n") == b"QUIT\r\n"
    assert statuses(client) == ["250", "450 4.2.0"]


def test_without_pipelining_data_is_not_sent_for_nobody() -> None:
    client, _ = begun(REQUEST, REQUEST, ehlo=b"250 mx\r\n")
    client.hear(b"250 Ok\r\n", b"550 No\r\n")
    assert client.hear(b"550 No\r\n") == b"RSET\r\n"
    assert statuses(client) == ["550", "550"]
    assert client.hear(b"250 Ok\r\n") == MAIL


def test_a_refused_sender_settles_everybody() -> None:
    client, _ = begun()
    assert client.hear(b"550 5.7.1 No\r\n503 5.5.1 No\r\n503 5.5.1 No\r\n503 5.5.1 No\r\n") == b"QUIT\r\n"
    assert statuses(client) == ["550 5.7.1", "550 5.7.1"]
    assert not any(isinstance(event, RecipientReply) for event in client.events)


def test_a_lone_dot_is_sent_when_data_is_let_through_for_nobody() -> None:
    """RFC 2920 §3.1."""
    client, _ = begun(REQUEST, REQUEST)
    assert client.hear(b"250 Ok\r\n550 No\r\n551 No\r\n354 Go\r\n") == b".\r\n"
    assert client.hear(b"554 No valid recipients\r\n") == MAIL + RCPTS + b"DATA\r\n"
    assert statuses(client) == ["550", "551"]
    assert SendBody() not in client.events


def test_a_transaction_left_open_is_reset_before_the_next() -> None:
    client, _ = begun(REQUEST, REQUEST)
    said = client.hear(b"250 Ok\r\n550 No\r\n550 No\r\n554 No valid recipients\r\n")
    assert said == b"RSET\r\n" + MAIL + RCPTS + b"DATA\r\n"
    client.hear(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n250 Ok\r\n")
    assert statuses(client) == ["250", "250"]


def test_data_refused_settles_those_that_were_accepted() -> None:
    client, _ = begun()
    client.hear(b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n451 4.3.0 Later\r\n")
    assert statuses(client) == ["451 4.3.0", "550 5.1.1"]


def test_lmtp_has_a_reply_for_each_accepted_recipient() -> None:
    """RFC 2033 §4.2."""
    three = TransactionRequest("", (ALICE, BOB, Recipient("carol@example.net")))
    client = Client([(three, BODY)], lmtp=True)
    assert client.hear(b"220 mx LMTP\r\n") == b"LHLO client.example.org\r\n"
    client.hear(EHLO)
    client.hear(b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n250 Ok\r\n354 Go\r\n")
    assert client.hear(b"452 4.2.2 Full\r\n") == b""
    assert client.hear(b"250 2.0.0 Ok\r\n") == b"QUIT\r\n"
    assert statuses(client) == ["452 4.2.2", "550 5.1.1", "250 2.0.0"]


def test_ehlo_that_is_not_known_is_followed_by_helo_and_no_parameter() -> None:
    """RFC 5321 §3.2."""
    request = TransactionRequest("me@example.org", (ALICE,), size=10, body="8BITMIME", ret="FULL", envid="x")
    client = Client([(request, BODY)])
    client.hear(b"220 mx\r\n")
    assert client.hear(b"502 What?\r\n") == b"HELO client.example.org\r\n"
    assert client.hear(b"250 mx\r\n") == MAIL


def test_parameters_go_to_servers_that_know_them() -> None:
    """RFC 1870, RFC 6152, RFC 3461 §4."""
    carol = Recipient("c@d", notify=frozenset({"SUCCESS", "DELAY"}), orcpt="rfc822;C+1@d")
    request = TransactionRequest("me@example.org", (carol,), 10, "8BITMIME", ret="HDRS", envid="a=b c")
    expected = b"MAIL FROM:<me@example.org> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=a+3Db+20c\r\n"
    expected += b"RCPT TO:<c@d> NOTIFY=DELAY,SUCCESS ORCPT=rfc822;C+2B1@d\r\n"
    assert begun(request, ehlo=ALL)[1] == expected + b"DATA\r\n"
    assert begun(request)[1] == b"MAIL FROM:<me@example.org>\r\nRCPT TO:<c@d>\r\nDATA\r\n"


def test_a_message_beyond_the_announced_size_is_not_even_tried() -> None:
    """RFC 1870 §5."""
    client, said = begun(TransactionRequest("a@b", (ALICE, BOB), size=1001), ehlo=ALL)
    assert said == b"QUIT\r\n"
    assert statuses(client) == ["552 5.3.4", "552 5.3.4"]


@pytest.mark.parametrize(
    "request_",
    [
        TransactionRequest("a@b", (ALICE,), smtputf8=True),
        TransactionRequest("ü@b", (ALICE,)),
        TransactionRequest("a@b", (Recipient("ü@b"),)),
    ],
)
def test_internationalized_mail_needs_smtputf8(request_: TransactionRequest) -> None:
    """RFC 6531 §3.1, §3.5."""
    client, said = begun(request_)
    assert said == b"QUIT\r\n"
    assert statuses(client) == ["550 5.6.7"]
    assert b" SMTPUTF8\r\n" in begun(request_, ehlo=ALL)[1]


@pytest.mark.parametrize("address", ["a@b>\r\nRCPT TO:<c@d", "a\n@b", "a\x00@b", "a\x7f@b"])
def test_no_address_can_smuggle_a_command(address: str) -> None:
    client = Client(prepare=lambda engine: engine.send(TransactionRequest(address, (ALICE,))))
    client.hear(b"220 mx\r\n")
    with pytest.raises(ValueError, match="control character"):
        client.hear(EHLO)


# Sessions that end


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (b"554 Go away\r\n", None),
        (b"421 Busy\r\n", None),
        (b"220 mx\r\n550 No\r\n550 No\r\n", None),
        (b"220 mx\r\n451 No\r\n", None),
        (b"220 mx\r\n" + EHLO + b"250 Ok\r\n421 4.3.2 Going down\r\n", None),
        (b"HTTP/1.1 400 Bad Request\r\n", "malformed"),
        (b"\r\n", "malformed"),
        (b"22\r\n", "malformed"),
        (b"100 x\r\n", "malformed"),
        (b"600 x\r\n", "malformed"),
        (b"220x\r\n", "malformed"),
        (b"220-a\r\n250 b\r\n", "more than one code"),
        (b"220-" + b"x" * 3000, "too long"),
        (b"220-x\r\n" * 1000, "too many lines"),
        (b"354 Go\r\n", "unexpected reply to greeting"),
        (b"220 mx\r\n" + EHLO + b"354 Ok\r\n", "unexpected reply to MAIL"),
        (b"220 mx\r\n" + EHLO + b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n", "unexpected reply to DATA"),
    ],
)
def test_what_ends_a_session(heard: bytes, reason: str | None) -> None:
    client = Client([(REQUEST, BODY)])
    client.hear(*heard.splitlines(keepends=True))
    last = client.events[-1]
    assert isinstance(last, Broken if reason else TurnedAway)
    assert not isinstance(last, Broken) or (reason or "") in last.reason
    assert client.engine.closed
    assert client.engine.next_event() == last


def test_a_421_settles_what_is_not_settled() -> None:
    """RFC 5321 §3.8."""
    client, _ = begun()
    client.hear(b"250 Ok\r\n550 5.1.1 No\r\n421 4.3.2 Going down\r\n")
    assert statuses(client) == ["550 5.1.1", "421 4.3.2"]
    assert isinstance(client.events[-1], TurnedAway)


def test_a_connection_lost_before_the_last_reply_means_try_again() -> None:
    """RFC 5321 §4.2.5: without a 250 the message is still ours."""
    client, _ = begun()
    client.hear(b"250 Ok\r\n550 5.1.1 No\r\n250 Ok\r\n354 Go\r\n", b"")
    assert statuses(client) == ["550 5.1.1", "451 4.4.2"]
    assert client.events[-1] == Broken("connection closed by the server")


def test_a_refusal_in_the_middle_of_the_message_counts_and_ends_the_session() -> None:
    engine = SmtpClientEngine("me")
    engine.receive(b"220 mx\r\n" + EHLO)
    assert isinstance(engine.next_event(), Greeted)
    assert isinstance(engine.next_event(), Ready)
    engine.send(REQUEST)
    engine.receive(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n")
    assert [type(engine.next_event()) for _ in range(4)] == [
        RecipientReply,
        RecipientReply,
        SendBody,
        type(NEED_REPLY),
    ]
    engine.body(b"some")
    engine.receive(b"552 5.3.4 Too large\r\n")
    too_large = Reply(552, "5.3.4", "Too large")
    assert engine.next_event() == TransactionDone((too_large, too_large))
    assert isinstance(engine.next_event(), Broken)
    engine.data_to_send()
    engine.body(b"more")
    engine.end_body()
    assert engine.data_to_send() == b""


def test_a_server_that_hangs_up_while_nothing_is_under_way_is_noticed() -> None:
    """RFC 5321 §3.8: it may say 421 before."""
    for last_words, farewell in ((b"", Broken), (b"421 4.4.2 Timeout\r\n", TurnedAway), (b"250 Ok\r\n", Broken)):
        engine = SmtpClientEngine("me")
        engine.receive(b"220 mx\r\n" + EHLO)
        assert [type(engine.next_event()) for _ in range(3)] == [Greeted, Ready, type(NEED_REPLY)]
        engine.receive(last_words)
        engine.receive(b"")
        assert isinstance(engine.next_event(), farewell)


def test_a_server_that_hangs_up_on_quit_is_forgiven() -> None:
    client = Client()
    assert client.hear(b"220 mx\r\n", EHLO) == b"EHLO client.example.org\r\nQUIT\r\n"
    client.hear(b"")
    assert client.events[-1] == Finished()


def test_whose_turn_it_is() -> None:
    engine = SmtpClientEngine("me")
    assert engine.next_event() is NEED_DATA
    with pytest.raises(RuntimeError):
        engine.quit()
    engine.receive(b"220 mx\r\n" + EHLO)
    engine.next_event()
    engine.next_event()
    assert engine.next_event() is NEED_REPLY
    engine.quit()
    assert engine.next_event() is NEED_DATA
    with pytest.raises(RuntimeError):
        engine.send(REQUEST)


# STARTTLS and AUTH


def test_what_a_server_says_before_tls_is_forgotten() -> None:
    """RFC 3207 §4.2; the response injections of 2021."""
    client = Client([(REQUEST, BODY)], prepare=SmtpClientEngine.starttls)
    client.hear(b"220 mx\r\n")
    assert client.hear(b"250-mx\r\n250 STARTTLS\r\n") == b"STARTTLS\r\n"
    assert client.hear(b"220 Go\r\n250-evil\r\n250 PIPELINING\r\n") == b"EHLO client.example.org\r\n"
    assert client.events[-1] == TlsReady()
    assert client.engine.tls
    assert client.hear(b"250 mx\r\n") == MAIL


def test_tls_that_is_refused_leaves_the_session_as_it_was() -> None:
    client = Client([(REQUEST, BODY)], prepare=SmtpClientEngine.starttls)
    client.hear(b"220 mx\r\n", EHLO)
    assert client.hear(b"454 4.7.0 Not now\r\n").startswith(MAIL)
    assert TlsRefused(Reply(454, "4.7.0", "Not now")) in client.events


def test_authentication_with_and_without_challenge() -> None:
    """RFC 4954 §4."""
    client = Client(prepare=lambda engine: engine.authenticate("LOGIN"))
    client.hear(b"220 mx\r\n")
    assert client.hear(EHLO) == b"AUTH LOGIN\r\n"
    assert client.hear(b"334 d2hvPw==\r\n") == b"c2VjcmV0\r\n"
    assert client.hear(b"235 2.7.0 Ok\r\n") == b"QUIT\r\n"
    assert client.events[-2:] == [AuthChallenge(b"who?"), AuthDone(Reply(235, "2.7.0", "Ok"))]
    client = Client(prepare=lambda engine: engine.authenticate("PLAIN", b""))
    client.hear(b"220 mx\r\n")
    assert client.hear(EHLO) == b"AUTH PLAIN =\r\n"


def test_a_challenge_that_is_no_base64_cancels_the_exchange() -> None:
    client = Client(prepare=lambda engine: engine.authenticate("LOGIN"))
    client.hear(b"220 mx\r\n", EHLO)
    assert client.hear(b"334 ???\r\n") == b"*\r\n"
    client.hear(b"501 5.7.0 Cancelled\r\n")
    assert client.events[-1] == AuthDone(Reply(501, "5.7.0", "Cancelled"))


# Bodies


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n.\r\n..\r\n", b"..\r\n..\r\n...\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.\rQUIT\r", b"a\r\n..\r\nQUIT\r\n.\r\n"),
        (b"a\r\r\n.\r\r\n", b"a\r\n\r\n..\r\n\r\n.\r\n"),
        (b"\x00\n.\xff", b"\x00\r\n..\xff\r\n.\r\n"),
    ],
)
def test_nothing_in_a_body_ends_it_wherever_it_is_cut(content: bytes, wire: bytes) -> None:
    """RFC 5321 §4.5.2, §2.3.8; outbound SMTP smuggling."""
    for first in range(len(content) + 1):
        for second in range(first, len(content) + 1):
            body = OutgoingBody(dotted=True)
            pieces = (content[:first], content[first:second], content[second:])
            assert b"".join(map(body.content, pieces)) + body.end() == wire


FLIGHT = TransactionRequest("me@example.org", (ALICE, BOB), size=10)
CHUNKING = b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"


def flown(*replies: bytes) -> Client:
    """A client that has sent two messages to a server with CHUNKING, and has heard this of the first."""
    client = Client([(FLIGHT, BODY), (FLIGHT, BODY)], chunking=True)
    client.hear(b"220 mx\r\n", CHUNKING, *replies)
    return client


def test_a_small_message_goes_in_one_flight_dots_and_all() -> None:
    """RFC 3030 §2; RFC 2920 §3.1: nothing of it has to wait for a reply."""
    client = Client([(FLIGHT, (b".a\n", b"b\r", b"\n.\r\nc"))], chunking=True)
    client.hear(b"220 mx\r\n")
    said = client.hear(CHUNKING)
    assert said == MAIL + RCPTS + b"BDAT 13 LAST\r\n.a\r\nb\r\n.\r\nc\r\n"
    client.hear(b"250 Ok\r\n250 Ok\r\n550 No\r\n")
    assert client.outcomes == []
    client.hear(b"250 2.0.0 Done\r\n")
    assert statuses(client) == ["250 2.0.0", "550"]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 2.0.0 Taken\r\n", ["250 2.0.0", "250 2.0.0"]),
        (b"250 Ok\r\n550 5.1.1 No\r\n250 Ok\r\n452 4.3.1 Full\r\n", ["550 5.1.1", "452 4.3.1"]),
        (b"250 Ok\r\n450 4.2.0 Grey\r\n550 5.1.1 No\r\n503 5.5.1 No one\r\n", ["450 4.2.0", "550 5.1.1"]),
        (b"250 Ok\r\n450 4.2.0 Grey\r\n550 5.1.1 No\r\n250 Taken for nobody\r\n", ["450 4.2.0", "550 5.1.1"]),
        (b"451 4.7.1 Later\r\n503 No\r\n503 No\r\n503 No\r\n", ["451 4.7.1", "451 4.7.1"]),
        (b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n421 4.3.2 Down\r\n", ["421 4.3.2", "550 5.1.1"]),
        (b"250 Ok\r\n550 5.1.1 No\r\n", ["550 5.1.1", "451 4.4.2"]),
    ],
    ids=["all", "one refused", "all refused", "nobody's message taken", "sender refused", "421", "cut off"],
)
def test_in_a_flight_too_each_recipient_has_its_own_reply(replies: bytes, expected: list[str]) -> None:
    client = flown(replies, *([] if replies.count(b"\n") == 4 else [b""]))
    outcome = client.outcomes[0]
    assert [f"{reply.code} {reply.status}".strip() for reply in outcome] == expected


def test_a_sessions_second_message_shows_by_its_354_that_replies_still_fit() -> None:
    """A server that answers one message twice; its refusal of the next must not be overlooked."""
    client = flown(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Taken\r\n250 Taken, really\r\n")
    client.hear(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n")
    assert statuses(client) == ["451 4.4.2", "451 4.4.2"]
    assert isinstance(client.events[-1], Broken)


def test_a_transaction_whose_chunk_was_refused_is_reset_before_the_next() -> None:
    """RFC 3030 §2: whoever has refused it has thrown the chunk away all the same."""
    client = Client([(FLIGHT, BODY), (FLIGHT, BODY)], chunking=True)
    client.hear(b"220 mx\r\n", CHUNKING)
    said = client.hear(b"250 Ok\r\n550 No\r\n550 No\r\n554 5.5.1 No valid recipients\r\n")
    assert said == b"RSET\r\n" + MAIL + RCPTS + b"DATA\r\n"


@pytest.mark.parametrize("code", [500, 501, 502, 504])
def test_a_server_that_does_not_know_bdat_after_all_is_believed_no_more(code: int) -> None:
    """It has read the message as commands: whatever was in it might be answered next."""
    client = flown(b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n%d What?\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n" % code)
    assert [reply.code for reply in client.outcomes[0]] == [451, 550]
    assert client.engine.lacks_bdat
    assert client.engine.closed
    assert len(client.outcomes) == 1


@pytest.mark.parametrize(
    ("request_", "ehlo"),
    [
        (TransactionRequest("me@example.org", (ALICE, BOB), size=65_537), CHUNKING),
        (TransactionRequest("me@example.org", (ALICE, BOB)), CHUNKING),
        (FLIGHT, EHLO),
        (FLIGHT, b"250-mx\r\n250 CHUNKING\r\n"),
    ],
    ids=["large", "of unknown size", "no CHUNKING", "no PIPELINING"],
)
def test_what_would_gain_nothing_or_cost_too_much_goes_by_data(request_: TransactionRequest, ehlo: bytes) -> None:
    client = Client([(request_, BODY)], chunking=True)
    client.hear(b"220 mx\r\n", ehlo, b"250 Ok\r\n", b"250 Ok\r\n", b"250 Ok\r\n")
    assert client.engine.next_event() is NEED_DATA
    assert client.hear(b"354 Go\r\n").endswith(b"hello\r\n.\r\n")
