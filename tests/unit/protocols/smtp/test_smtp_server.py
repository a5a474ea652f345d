"""The server engine's commands: sequence, syntax, TLS, authentication, limits."""

import pytest
from tests.smtp_sessions import OK, Server, ready, with_recipient

from posthouse.base.errors import Reply
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Chunk,
    DataStart,
    Hello,
    MailFrom,
    MessageEnd,
    Quit,
    RcptTo,
    Reset,
    StartTls,
)
from posthouse.protocols.smtp.server import SmtpServerEngine
from posthouse.protocols.smtp.states import ServerOptions


def codes(said: bytes) -> list[int]:
    """The code of each reply."""
    return [int(line[:3]) for line in said.splitlines() if line[3:4] == b" "]


def test_the_typical_transaction_of_rfc_5321_appendix_d1() -> None:
    server = Server(max_size_bytes=1000)
    assert server.output == b"220 mx.example.com ESMTP Posthouse\r\n"
    assert server.say(b"EHLO bar.com\r\n") == (
        b"250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-ENHANCEDSTATUSCODES\r\n"
        b"250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
    )
    assert codes(server.say(b"MAIL FROM:<Smith@bar.com>\r\n")) == [250]
    assert codes(server.say(b"RCPT TO:<Jones@foo.com>\r\n")) == [250]
    assert codes(server.say(b"RCPT TO:<nobody@foo.com>\r\n")) == [550]
    assert codes(server.say(b"DATA\r\n")) == [354]
    assert server.say(b"Blah blah blah...\r\n...etc. etc. etc.\r\n") == b""
    assert codes(server.say(b".\r\n")) == [250]
    assert codes(server.say(b"QUIT\r\n")) == [221]
    assert server.engine.closed
    assert server.meaning() == [
        Hello("bar.com", "EHLO"),
        MailFrom("Smith@bar.com"),
        RcptTo("Jones@foo.com"),
        RcptTo("nobody@foo.com"),
        DataStart(),
        Chunk(b"Blah blah blah...\r\n..etc. etc. etc.\r\n"),
        MessageEnd(),
        Quit("QUIT"),
    ]


def test_pipelined_commands_wait_for_the_reply_before_them() -> None:
    """RFC 2920 §3.2: replies in the order of the commands."""
    engine = SmtpServerEngine(ServerOptions("mx"))
    engine.receive(b"EHLO a\r\nMAIL FROM:<>\r\nNOOP\r\n")
    assert engine.next_event() is NEED_REPLY
    engine.greet()
    assert engine.next_event() == Hello("a", "EHLO")
    assert engine.next_event() is NEED_REPLY
    engine.accept_hello()
    assert engine.next_event() == MailFrom("")
    engine.data_to_send()
    assert engine.next_event() is NEED_REPLY
    engine.reply(Reply(250, "2.1.0", "Sender ok"))
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"250 2.1.0 Sender ok\r\n250 2.0.0 Ok\r\n"
    assert engine.data_to_send() == b""


def test_answers_that_nothing_waits_for_are_the_drivers_mistake() -> None:
    engine = SmtpServerEngine(ServerOptions("mx"))
    with pytest.raises(RuntimeError):
        engine.accept_data()
    engine.greet()
    with pytest.raises(RuntimeError):
        engine.reply(OK)
    with pytest.raises(RuntimeError):
        engine.greet()


def test_a_client_turned_away_at_the_greeting_may_only_quit() -> None:
    """RFC 5321 §3.1: a server that said 554 waits for QUIT and answers 503 to everything else."""
    engine = SmtpServerEngine(ServerOptions("mx"))
    engine.reply(Reply(554, "5.7.1", "No service here"))
    engine.receive(b"EHLO a\r\nMAIL FROM:<>\r\nBDAT 4 LAST\r\nQUITQUIT\r\n")
    assert engine.next_event() == Quit("QUIT")
    assert codes(engine.data_to_send()) == [554, 503, 503, 503, 221]


def test_a_421_ends_the_session_whatever_it_answers() -> None:
    engine = SmtpServerEngine(ServerOptions("mx"))
    engine.reply(Reply(421, "4.3.2", "Too many connections"))
    engine.receive(b"EHLO a\r\n")
    assert isinstance(engine.next_event(), Quit)
    assert isinstance(engine.next_event(), Quit)
    assert engine.data_to_send() == b"421 4.3.2 Too many connections\r\n"


def test_the_driver_can_end_a_session_in_the_middle_of_a_message() -> None:
    server = with_recipient()
    server.say(b"DATA\r\nhalf a")
    server.engine.close(Reply(421, "4.4.2", "Timeout"))
    assert server.say(b"message\r\n.\r\n") == b"421 4.4.2 Timeout\r\n"
    assert isinstance(server.events[-1], Quit)
    assert server.messages == []


@pytest.mark.parametrize("where", [b"", b"EHLO a\r\n", b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nx"])
def test_the_end_of_the_connection_ends_the_session_without_a_word(where: bytes) -> None:
    server = Server()
    server.say(where)
    assert server.say(b"QU", b"") == b""
    assert server.engine.closed
    assert server.events[-1] == Quit("connection closed by the client")
    assert server.messages == []


def test_commands_before_the_end_of_the_connection_are_answered() -> None:
    server = Server()
    server.engine.receive(b"EHLO a\r\nNOOP\r\n")
    server.engine.receive(b"")
    server.run()
    assert codes(server.engine.data_to_send()) == [250, 250]


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        (b"", b"MAIL FROM:<a@b>", 503),
        (b"", b"RCPT TO:<a@b>", 503),
        (b"", b"DATA", 503),
        (b"", b"AUTH PLAIN", 503),
        (b"", b"STARTTLS", 503),
        (b"", b"NOOP", 250),
        (b"", b"RSET", 250),
        (b"", b"HELP", 214),
        (b"", b"VRFY root", 252),
        (b"", b"VRFY", 501),
        (b"", b"EXPN staff", 502),
        (b"", b"TURN", 502),
        (b"", b"XYZZY", 500),
        (b"", b"", 500),
        (b"", b"LHLO a", 500),
        (b"", b"HELO", 501),
        (b"", b"EHLO a b", 501),
        (b"", b"EHLO \xffa", 501),
        (b"HELO a", b"AUTH PLAIN", 503),
        (b"HELO a", b"STARTTLS", 503),
        (b"EHLO a", b"RCPT TO:<a@b>", 503),
        (b"EHLO a", b"DATA", 503),
        (b"EHLO a", b"mail from:<a@b>  ", 250),
        (b"EHLO a\r\nMAIL FROM:<a@b>", b"MAIL FROM:<a@b>", 503),
        (b"EHLO a\r\nMAIL FROM:<a@b>", b"AUTH PLAIN", 503),
        (b"EHLO a\r\nMAIL FROM:<a@b>", b"STARTTLS", 503),
        (b"EHLO a\r\nMAIL FROM:<a@b>", b"DATA", 554),
        (b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@b>", b"DATA", 554),
        (b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>", b"DATA x", 501),
        (b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>", b"MAIL FROM:<a@b>", 503),
        (b"EHLO a\r\nMAIL FROM:<nobody@b>", b"RCPT TO:<a@b>", 503),
        (b"EHLO a", b"RSET x", 501),
        (b"EHLO a", b"STARTTLS x", 501),
        (b"EHLO a", b"AUTH PLAIN", 530),
    ],
)
def test_every_command_has_its_place(before: bytes, command: bytes, code: int) -> None:
    """RFC 5321 §4.1.4, §4.2.4."""
    server = Server(starttls=True)
    server.say(before + b"\r\n" if before else b"NOOP\r\n")
    assert codes(server.say(command + b"\r\n")) == [code]


def test_a_second_ehlo_is_rset_too() -> None:
    """RFC 5321 §4.1.4."""
    server = with_recipient()
    server.say(b"EHLO other.example\r\n")
    assert server.events == [Hello("other.example", "EHLO"), Reset()]
    assert codes(server.say(b"RCPT TO:<a@b>\r\n")) == [503]


def test_a_refused_second_hello_leaves_the_transaction_as_it_was() -> None:
    """RFC 5321 §4.1.4."""
    server = with_recipient()
    server.engine.receive(b"EHLO liar.example\r\n")
    assert server.engine.next_event() == Hello("liar.example", "EHLO")
    server.engine.reply(Reply(550, "5.7.1", "Go away"))
    assert codes(server.say(b"DATA\r\n")) == [550, 354]


def test_rset_drops_the_transaction_and_says_so_once() -> None:
    server = with_recipient()
    assert codes(server.say(b"RSET\r\nRSET\r\n")) == [250, 250]
    assert server.events == [Reset()]


def test_helo_offers_no_extension() -> None:
    """RFC 5321 §4.1.1.1."""
    server = Server(starttls=True, auth=("PLAIN",))
    assert server.say(b"HELO a\r\n") == b"250 mx.example.com\r\n"


def test_a_driver_may_refuse_data_and_the_transaction_is_over() -> None:
    server = with_recipient()
    server.engine.receive(b"DATA\r\n")
    assert server.engine.next_event() == DataStart()
    server.engine.reply(Reply(451, "4.3.1", "Disk full"))
    assert codes(server.say(b"DATA\r\n")) == [451, 503]


# STARTTLS


def test_plaintext_sent_after_starttls_is_discarded() -> None:
    """RFC 3207 §4.2; the STARTTLS command injections of 2011 and 2021."""
    server = ready(starttls=True)
    assert codes(server.say(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")) == [220]
    assert server.events == [StartTls()]
    assert codes(server.say(b"MAIL FROM:<a@b>\r\n")) == [503]
    assert b"STARTTLS" not in server.say(b"EHLO a\r\n")
    assert codes(server.say(b"STARTTLS\r\n")) == [502]


def test_nothing_is_read_while_tls_is_negotiated() -> None:
    engine = SmtpServerEngine(ServerOptions("mx", starttls=True))
    engine.greet()
    engine.receive(b"EHLO a\r\nSTARTTLS\r\nNOOP\r\n")
    engine.next_event()
    engine.accept_hello()
    assert engine.next_event() == StartTls()
    engine.accept_starttls()
    engine.receive(b"NOOP\r\n")
    assert engine.next_event() is NEED_REPLY


def test_what_was_reached_before_tls_is_forgotten() -> None:
    """RFC 3207 §4.2."""
    server = ready(starttls=True, auth=("PLAIN",))
    server.say(b"AUTH PLAIN c2VjcmV0\r\n")
    assert server.engine.authenticated
    server.say(b"STARTTLS\r\n")
    assert server.engine.tls
    assert not server.engine.authenticated
    assert b"AUTH PLAIN" in server.say(b"EHLO a\r\n")


# AUTH


def test_auth_with_an_initial_response() -> None:
    """RFC 4954 §4."""
    server = ready(auth=("PLAIN", "LOGIN"))
    assert codes(server.say(b"auth plain c2VjcmV0\r\n")) == [235]
    assert server.events == [Auth("PLAIN", b"secret")]
    assert b"AUTH" not in server.say(b"EHLO a\r\n")
    assert codes(server.say(b"AUTH PLAIN c2VjcmV0\r\n")) == [503]


def test_auth_with_a_challenge() -> None:
    server = ready(auth=("LOGIN",))
    assert server.say(b"AUTH LOGIN\r\n") == b"334 d2hvPw==\r\n"
    assert codes(server.say(b"c2VjcmV0\r\n")) == [235]
    assert server.events == [Auth("LOGIN", None), AuthResponse(b"secret")]


def test_an_empty_initial_response_is_not_the_absence_of_one() -> None:
    """RFC 4954 §4: a single equals sign."""
    server = ready(auth=("PLAIN",))
    assert codes(server.say(b"AUTH PLAIN =\r\n")) == [535]
    assert server.events == [Auth("PLAIN", b"")]


@pytest.mark.parametrize("line", [b"*", b"!!!", b"c2Vjcm", b"QUIT"[:3]])
def test_an_exchange_given_up_or_garbled_leaves_a_usable_session(line: bytes) -> None:
    """RFC 4954 §4: 501 to ``*`` and to what is no base64."""
    server = ready(auth=("LOGIN",))
    assert codes(server.say(b"AUTH LOGIN\r\n" + line + b"\r\n")) == [334, 501]
    assert server.events == [Auth("LOGIN", None), AuthCancelled()]
    assert codes(server.say(b"MAIL FROM:<a@b>\r\n")) == [250]


@pytest.mark.parametrize(
    ("argument", "code"),
    [(b"", 501), (b"PLAIN a b", 501), (b"PLAIN ####", 501), (b"GSSAPI", 504), (b"\xff", 504)],
)
def test_bad_auth_commands(argument: bytes, code: int) -> None:
    assert codes(ready(auth=("PLAIN",)).say(b"AUTH " + argument + b"\r\n")) == [code]


def test_auth_that_is_not_offered_is_not_implemented() -> None:
    assert codes(ready().say(b"AUTH PLAIN\r\n")) == [502]


def test_mechanisms_may_change_until_ehlo() -> None:
    server = Server()
    server.engine.auth_mechanisms = ("SCRAM-SHA-256", "PLAIN")
    assert b"250-AUTH SCRAM-SHA-256 PLAIN\r\n250-AUTH=SCRAM-SHA-256 PLAIN\r\n" in server.say(b"EHLO a\r\n")


def test_mail_waits_for_authentication_where_it_is_required() -> None:
    """RFC 4954 §6: 530."""
    server = ready(auth=("PLAIN",), require_auth=True)
    assert codes(server.say(b"MAIL FROM:<a@b>\r\nAUTH PLAIN c2VjcmV0\r\nMAIL FROM:<a@b>\r\n")) == [530, 235, 250]


def test_responses_may_be_as_long_as_rfc_4954_says() -> None:
    """RFC 4954 §4: 12288 octets."""
    server = ready(auth=("PLAIN",))
    line = b"AUTH PLAIN " + b"AAAA" * 3068 + b"\r\n"
    assert 12_280 < len(line) <= 12_288
    assert codes(server.say(line)) == [535]


def test_response_has_room_for_a_token_of_16_kib() -> None:
    """RFC 7628 §3.1 sets no limit."""
    assert codes(ready(auth=("OAUTHBEARER",)).say(b"AUTH OAUTHBEARER " + b"AAAA" * 5800 + b"\r\n")) == [535]


# Limits


def test_a_long_command_is_refused_and_the_session_goes_on() -> None:
    """RFC 5321 §4.5.3.1.9: 500."""
    server = ready()
    assert codes(server.say(b"MAIL FROM:<" + b"a" * 5000 + b"@b>\r\nNOOP\r\n")) == [500, 250]


def test_a_line_of_50_megabytes_ends_the_session_in_bounded_memory() -> None:
    server = ready()
    piece = b"x" * 50_000
    for _ in range(1000):
        server.say(piece)
    assert len(server.engine._buffer) == 0
    assert server.engine.closed
    assert codes(server.output)[-1] == 500


def test_too_many_errors_end_the_session() -> None:
    server = ready(max_errors=5)
    assert codes(server.say(b"FOO\r\n" * 100)) == [500] * 5 + [421]
    assert server.events == [Quit("too many errors")]


def test_refused_recipients_are_errors_too_until_a_message_gets_through() -> None:
    """What harvests addresses is stopped; who delivers is forgiven."""
    server = ready(max_errors=5)
    refused = b"RCPT TO:<nobody@b>\r\n" * 4
    message = b"MAIL FROM:<a@b>\r\n" + refused + b"RCPT TO:<b@b>\r\nDATA\r\n.\r\n"
    server.say(message * 3)
    assert not server.engine.closed
    server.say(b"MAIL FROM:<a@b>\r\n" + refused * 2)
    assert server.engine.closed


def test_commands_that_lead_nowhere_count_as_errors_in_the_end() -> None:
    server = ready(max_errors=5, max_idle_commands=10)
    assert codes(server.say(b"NOOP\r\nRSET\r\n" * 50))[-1] == 421
    assert server.output.count(b"250 2.0.0") < 20


def test_recipients_beyond_the_limit_are_put_off_in_linear_time() -> None:
    """RFC 5321 §4.5.3.1.10: 452, and those accepted before stay."""
    server = ready(max_recipients=100)
    server.say(b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<b@example.com>\r\n" * 100_000)
    assert sum(isinstance(event, RcptTo) for event in server.events) == 100
    assert server.output.count(b"452 4.5.3 ") == 99_900
    assert codes(server.say(b"DATA\r\n")) == [354]


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"CONNECT mx:25 HTTP/1.1", b"PRI * HTTP/2.0"]
)
def test_other_protocols_are_hung_up_on_at_once(line: bytes) -> None:
    """What a browser or a proxy was made to send to our port must not be read on."""
    server = Server()
    assert codes(server.say(line + b"\r\nHost: x\r\n\r\nEHLO a\r\nMAIL FROM:<a@b>\r\n")) == [421]
    assert server.events == [Quit("not SMTP")]


# LMTP


def test_lmtp_answers_once_for_each_accepted_recipient() -> None:
    """RFC 2033 §4.2."""
    server = ready(lmtp=True)
    recipients = b"RCPT TO:<a@b>\r\nRCPT TO:<nobody@b>\r\nRCPT TO:<c@b>\r\n"
    assert codes(server.say(b"MAIL FROM:<>\r\n" + recipients + b"DATA\r\n")) == [250, 250, 550, 250, 354]
    server.engine.receive(b"x\r\n.\r\nNOOP\r\n")
    assert server.engine.next_event() == Chunk(b"x\r\n")
    assert server.engine.next_event() == MessageEnd()
    server.engine.reply(OK)
    assert server.engine.next_event() is NEED_REPLY
    server.engine.reply(Reply(452, "4.2.2", "Over quota"))
    assert server.engine.next_event() is NEED_DATA
    assert codes(server.engine.data_to_send()) == [250, 452, 250]


def test_lmtp_refuses_a_broken_message_once_for_each_accepted_recipient() -> None:
    server = ready(lmtp=True)
    server.say(b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\nDATA\r\n")
    assert codes(server.say(b"bare\nnewline\r\n.\r\n")) == [550, 550]


@pytest.mark.parametrize(
    ("line", "code"), [(b"EHLO a", 500), (b"HELO a", 500), (b"MAIL FROM:<>\r\nDATA", 503), (b"LHLO b", 250)]
)
def test_lmtp_differs_from_smtp(line: bytes, code: int) -> None:
    """RFC 2033 §4.1, §4.2."""
    assert codes(ready(lmtp=True).say(line + b"\r\n"))[-1] == code


# Replies


def test_no_text_of_a_reply_breaks_out_of_its_line() -> None:
    engine = SmtpServerEngine(ServerOptions("mx"))
    engine.reply(Reply(554, "5.7.1", "no\r250 yes\nsecond \u20ac\x00 line\n" + "x" * 1000))
    lines = engine.data_to_send().split(b"\r\n")
    assert lines[:2] == [b"554-5.7.1 no?250 yes", b"554-5.7.1 second ?? line"]
    assert lines[-2].startswith(b"554 5.7.1 xxx")
    assert max(map(len, lines)) <= 510
