"""The POP3 server's engine."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, Pause
from posthouse.protocols.pop3.events import (
    Apop,
    Auth,
    AuthCancelled,
    AuthResponse,
    Event,
    OutputWaits,
    Quit,
    Retrieve,
    StartTls,
    UserPass,
)
from posthouse.protocols.pop3.maildrop import Maildrop
from posthouse.protocols.pop3.server import OUTPUT_LIMIT, Pop3ServerEngine, ServerOptions

OPTIONS = ServerOptions("mail.example.test", starttls=True, auth=("SCRAM-SHA-256", "PLAIN"))
LOGIN = b"USER alice@example.test\r\nPASS secret\r\n"


def connected(options: ServerOptions = OPTIONS) -> Pop3ServerEngine:
    """An engine whose greeting has been sent."""
    engine = Pop3ServerEngine(options)
    engine.data_to_send()
    return engine


def maildrop() -> Maildrop:
    return Maildrop(uidvalidity=0x5F000001, uids=(1, 7, 12), sizes=(120, 200, 30))


def logged_in() -> Pop3ServerEngine:
    engine = connected()
    assert said(engine, LOGIN) == b"+OK Send the password\r\n"
    engine.accept_login(maildrop())
    assert engine.data_to_send() == b"+OK 3 messages (350 octets)\r\n"
    return engine


def said(engine: Pop3ServerEngine, data: bytes) -> bytes:
    """What the engine answers by itself."""
    engine.receive(data)
    engine.next_event()
    return engine.data_to_send()


def test_greeting_without_a_timestamp_offers_no_apop():
    """RFC 1939 §7."""
    engine = Pop3ServerEngine(OPTIONS)
    assert engine.data_to_send() == b"+OK mail.example.test POP3 server ready\r\n"
    assert said(engine, b"APOP alice c4c9334bac560ecc979e58001b3e22fb\r\n").startswith(b"-ERR")


def test_apop_proves_a_password_without_sending_it():
    """RFC 1939 §7."""
    options = ServerOptions("mail.example.test", timestamp="<1896.697170952@dbc.mtview.ca.us>")
    engine = Pop3ServerEngine(options)
    assert engine.data_to_send().endswith(b" ready <1896.697170952@dbc.mtview.ca.us>\r\n")
    engine.receive(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n")
    for _ in range(2):
        assert engine.next_event() == Apop("mrose", "c4c9334bac560ecc979e58001b3e22fb")
        engine.refuse("Wrong login or password", "AUTH")
        engine.receive(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n")
    assert isinstance(engine.next_event(), Apop)
    engine.accept_login(maildrop())
    assert b"+OK 3 messages" in engine.data_to_send()
    assert said(engine, b"APOP a b\r\n").startswith(b"-ERR")


@pytest.mark.parametrize("arguments", [b"", b" ", b" alice", b" alice  "])
def test_apop_needs_a_name_and_a_digest(arguments: bytes):
    engine = connected(ServerOptions("mail.example.test", timestamp="<1@h>"))
    assert said(engine, b"APOP" + arguments + b"\r\n").startswith(b"-ERR")
    assert engine.next_event() is NEED_DATA


def test_where_no_password_may_be_sent_there_is_no_user():
    engine = connected(ServerOptions("mail.example.test", auth=("SCRAM-SHA-256",)))
    answer = said(engine, b"CAPA\r\n")
    assert b"SASL SCRAM-SHA-256\r\n" in answer
    assert b"USER" not in answer
    assert said(engine, b"USER alice\r\n").startswith(b"-ERR")


def test_capabilities_are_listed():
    """RFC 2449 §5."""
    answer = said(connected(), b"CAPA\r\n")
    assert answer.startswith(b"+OK")
    assert answer.endswith(b"\r\n.\r\n")
    assert set(answer.decode().split("\r\n")[1:-2]) == {
        "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "USER",
        "SASL SCRAM-SHA-256 PLAIN", "STLS", "UTF8 USER", "LANG", "IMPLEMENTATION Posthouse",
    }  # fmt: skip


def test_login_delay_is_announced_where_there_is_one():
    """RFC 2449 §6.5."""
    assert b"\r\nLOGIN-DELAY 900\r\n" in said(connected(ServerOptions("h", login_delay_seconds=900)), b"CAPA\r\n")
    assert b"LOGIN-DELAY" not in said(connected(), b"CAPA\r\n")


def test_utf8_is_said_before_the_login_and_after_stls():
    """RFC 6856 §2.1."""
    engine = connected()
    assert said(engine, b"UTF8\r\n").startswith(b"+OK")
    assert said(engine, b"STLS\r\n").startswith(b"-ERR")
    engine.receive("USER ä@example.test\r\nPASS ö\r\n".encode())
    assert engine.next_event() == UserPass("ä@example.test", "ö")
    assert said(logged_in(), b"UTF8\r\n") == b"-ERR Not now\r\n"


@pytest.mark.parametrize("engine", [connected, logged_in])
def test_the_language_is_english(engine):
    """RFC 6856 §3.2 and §3.3."""
    engine = engine()
    assert said(engine, b"LANG\r\n") == b"+OK Language listing follows\r\nen English\r\n.\r\n"
    for wanted in (b"*", b"en", b"EN"):
        assert said(engine, b"LANG %s\r\n" % wanted).startswith(b"+OK en ")
    assert said(engine, b"LANG MUL\r\n").startswith(b"-ERR")


def test_stls_is_not_announced_after_the_login():
    """RFC 2595 §4."""
    answer = said(logged_in(), b"capa\r\n")
    assert b"STLS" not in answer
    assert b"USER" in answer


def test_without_mechanisms_no_password_is_taken():
    engine = connected(ServerOptions("mail.example.test", starttls=True))
    assert b"SASL" not in said(engine, b"CAPA\r\n")
    for command in (b"USER alice\r\n", b"PASS secret\r\n", b"AUTH PLAIN AGEAYg==\r\n"):
        assert said(engine, command).startswith(b"-ERR")
    assert engine.next_event() is NEED_DATA


def test_password_may_contain_spaces():
    """RFC 1939 §7, PASS."""
    engine = connected()
    engine.receive(b"USER alice@example.test\r\nPASS  my secret \r\n")
    assert engine.next_event() == UserPass("alice@example.test", " my secret ")


def test_refused_login_may_be_tried_again():
    engine = connected()
    engine.receive(LOGIN)
    assert engine.next_event() == UserPass("alice@example.test", "secret")
    engine.refuse("Wrong login or password", "AUTH")
    assert engine.data_to_send().endswith(b"-ERR [AUTH] Wrong login or password\r\n")
    assert said(engine, b"PASS secret\r\n").startswith(b"-ERR")
    engine.receive(LOGIN)
    assert isinstance(engine.next_event(), UserPass)


def test_auth_with_an_initial_response():
    """RFC 5034 §4."""
    engine = connected()
    engine.receive(b"AUTH plain AGEAYg==\r\n")
    assert engine.next_event() == Auth("PLAIN", b"\0a\0b")
    assert engine.next_event() is NEED_REPLY
    engine.accept_login(maildrop())
    assert said(engine, b"STAT\r\n") == b"+OK 3 messages (350 octets)\r\n+OK 3 350\r\n"


def test_auth_with_challenges():
    engine = connected()
    engine.receive(b"AUTH PLAIN\r\n" + base64.b64encode(b"\0a\0b") + b"\r\n")
    assert engine.next_event() == Auth("PLAIN", None)
    engine.auth_challenge(b"")
    assert engine.data_to_send() == b"+ \r\n"
    assert engine.next_event() == AuthResponse(b"\0a\0b")
    engine.auth_challenge(b"more?")
    assert engine.data_to_send() == b"+ bW9yZT8=\r\n"
    engine.receive(b"\r\n")
    assert engine.next_event() == AuthResponse(b"")
    engine.refuse("No", "AUTH")
    assert engine.data_to_send() == b"-ERR [AUTH] No\r\n"
    assert said(engine, b"NOOP\r\n").startswith(b"-ERR")


@pytest.mark.parametrize("response", [b"*", b"!!!", b"AAA", b"\xff\xff\xff\xff", b"AAAA=AAA"])
def test_cancelled_or_senseless_exchange_ends(response: bytes):
    """RFC 5034 §4: a client cancels with an asterisk."""
    engine = connected()
    engine.receive(b"AUTH PLAIN\r\n")
    engine.next_event()
    engine.auth_challenge(b"")
    engine.data_to_send()
    engine.receive(response + b"\r\n")
    assert engine.next_event() == AuthCancelled()
    assert engine.data_to_send().startswith(b"-ERR")
    assert said(engine, b"CAPA\r\n").startswith(b"+OK")


@pytest.mark.parametrize(("argument", "initial"), [(b"PLAIN =", b""), (b"PLAIN", None)])
def test_empty_initial_response_is_not_a_missing_one(argument: bytes, initial: bytes | None):
    engine = connected()
    engine.receive(b"AUTH " + argument + b"\r\n")
    assert engine.next_event() == Auth("PLAIN", initial)


@pytest.mark.parametrize("argument", [b"", b" GSSAPI", b" LOGIN", b" PLAIN !!", b" PLAIN AAAA BBBB"])
def test_senseless_auth_is_refused(argument: bytes):
    assert said(connected(), b"AUTH" + argument + b"\r\n").startswith(b"-ERR")


def test_plaintext_sent_after_stls_is_discarded():
    """RFC 2595 §4; the STARTTLS command injections of 2011 and 2021."""
    engine = connected()
    engine.receive(b"USER mallory\r\nSTLS\r\nPASS secret\r\n")
    assert engine.next_event() == StartTls()
    engine.accept_starttls()
    assert engine.data_to_send().endswith(b"+OK Begin TLS negotiation\r\n")
    engine.start_tls()
    assert engine.next_event() is NEED_DATA
    assert b"STLS" not in said(engine, b"CAPA\r\n")
    assert said(engine, b"STLS\r\n").startswith(b"-ERR")
    assert said(engine, b"PASS secret\r\n").startswith(b"-ERR")


@pytest.mark.parametrize("command", [b"STAT", b"LIST", b"UIDL", b"RETR 1", b"TOP 1 1", b"DELE 1", b"RSET", b"NOOP"])
def test_maildrop_is_closed_before_the_login(command: bytes):
    assert said(connected(), command + b"\r\n") == b"-ERR Not now\r\n"


@pytest.mark.parametrize("command", [b"USER x", b"PASS x", b"AUTH PLAIN", b"STLS"])
def test_nobody_logs_in_twice(command: bytes):
    assert said(logged_in(), command + b"\r\n") == b"-ERR Not now\r\n"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"STAT", b"+OK 3 350\r\n"),
        (b"stat ", b"+OK 3 350\r\n"),
        (b"NOOP", b"+OK Done\r\n"),
        (b"LIST", b"+OK 3 messages\r\n1 120\r\n2 200\r\n3 30\r\n.\r\n"),
        (b"LIST 2", b"+OK 2 200\r\n"),
        (
            b"UIDL",
            b"+OK 3 messages\r\n1 000000015f000001\r\n2 000000075f000001\r\n3 0000000c5f000001\r\n.\r\n",
        ),
        (b"UIDL 3", b"+OK 3 0000000c5f000001\r\n"),
        (b"LIST 4", b"-ERR No such message\r\n"),
        (b"LIST 0", b"-ERR No such message\r\n"),
        (b"RETR -1", b"-ERR That is not a message number\r\n"),
        (b"RETR", b"-ERR That is not a message number\r\n"),
        (b"DELE \xd9\xa1", b"-ERR That is not a message number\r\n"),
        (b"RETR " + b"9" * 5000, b"-ERR That is not a message number\r\n"),
        (b"TOP 1", b"-ERR TOP needs a message number and a number of lines\r\n"),
        (b"TOP 9 1", b"-ERR No such message\r\n"),
        (b"XYZZY", b"-ERR Unknown command\r\n"),
        (b"", b"-ERR Unknown command\r\n"),
        (b"\0\xff", b"-ERR Unknown command\r\n"),
    ],
)
def test_commands_on_the_maildrop(command: bytes, answer: bytes):
    """RFC 1939 §5 and §7."""
    assert said(logged_in(), command + b"\r\n") == answer


def test_deleted_messages_disappear_but_keep_their_numbers():
    """RFC 1939 §5, DELE and RSET."""
    engine = logged_in()
    assert said(engine, b"DELE 2\r\n").startswith(b"+OK")
    assert said(engine, b"STAT\r\n") == b"+OK 2 150\r\n"
    assert said(engine, b"LIST\r\n") == b"+OK 2 messages\r\n1 120\r\n3 30\r\n.\r\n"
    for command in (b"RETR 2", b"TOP 2 0", b"LIST 2", b"UIDL 2", b"DELE 2"):
        assert said(engine, command + b"\r\n") == b"-ERR That is marked as deleted\r\n".replace(
            b"That", b"That message"
        )
    assert said(engine, b"RSET\r\n") == b"+OK 3 350\r\n"
    assert said(engine, b"LIST 2\r\n") == b"+OK 2 200\r\n"


def test_quit_hands_over_what_is_deleted():
    """RFC 1939 §6."""
    engine = logged_in()
    engine.receive(b"DELE 3\r\nDELE 1\r\nQUIT\r\nSTAT\r\n")
    assert engine.next_event() == Quit((0, 2))
    assert not engine.closed
    engine.accept_quit()
    assert engine.data_to_send().endswith(b"+OK Bye\r\n")
    assert engine.closed
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b""


def test_quit_whose_deletions_failed_ends_with_an_error():
    engine = logged_in()
    engine.receive(b"DELE 3\r\nQUIT\r\n")
    engine.next_event()
    engine.data_to_send()
    engine.refuse("Some messages were not removed", "SYS/TEMP")
    assert engine.data_to_send() == b"-ERR [SYS/TEMP] Some messages were not removed\r\n"
    assert engine.closed


def test_quit_before_the_login_needs_nobody():
    engine = connected()
    assert said(engine, b"QUIT\r\n") == b"+OK Bye\r\n"
    assert engine.closed


def test_end_of_input_deletes_nothing():
    """RFC 1939 §6: a session that ends without QUIT removes nothing."""
    engine = logged_in()
    engine.receive(b"DELE 1\r\nQUI")
    engine.receive(b"")
    assert engine.next_event() is NEED_DATA
    assert engine.closed


def test_commands_before_the_end_of_input_are_answered():
    engine = connected()
    engine.receive(LOGIN + b"QUIT\r\n")
    engine.receive(b"")
    assert isinstance(engine.next_event(), UserPass)
    engine.accept_login(maildrop())
    assert engine.next_event() == Quit(())


def retrieved(engine: Pop3ServerEngine, chunks: list[bytes]) -> bytes:
    assert isinstance(engine.next_event(), Retrieve)
    engine.begin_message()
    for chunk in chunks:
        if not engine.message(chunk):
            break
    engine.end_message()
    return engine.data_to_send()


def test_message_is_dot_stuffed():
    """RFC 1939 §3."""
    engine = logged_in()
    engine.receive(b"RETR 1\r\n")
    answer = retrieved(engine, [b"Subject: x\r\n\r\n.\r\n..a\r", b"\n.", b"b.\r\n"])
    assert answer == b"+OK 120 octets\r\nSubject: x\r\n\r\n..\r\n...a\r\n..b.\r\n.\r\n"


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"\n.\r\n", b"\r\n..\r\n.\r\n"),
        (b"a\r.\r\n", b"a\r.\r\n.\r\n"),
    ],
)
def test_message_ends_where_it_ends(message: bytes, sent: bytes):
    """Bare LFs too: a client that takes them for line ends must not see an end that isn't."""
    for chunks in ([message], [message[i : i + 1] for i in range(len(message))]):
        engine = logged_in()
        engine.receive(b"RETR 1\r\n")
        assert retrieved(engine, chunks) == b"+OK 120 octets\r\n" + sent


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, b"A: b\r\nC: d\r\n\r\n"), (1, b"A: b\r\nC: d\r\n\r\n..1\r\n"), (2, b"A: b\r\nC: d\r\n\r\n..1\r\n2\r\n")],
)
@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 100])
def test_top_is_cut_after_its_lines(lines: int, expected: bytes, step: int):
    """RFC 1939 §7."""
    message = b"A: b\r\nC: d\r\n\r\n.1\r\n2\r\n3"
    engine = logged_in()
    engine.receive(b"TOP 1 %d\r\n" % lines)
    chunks = [message[i : i + step] for i in range(0, len(message), step)]
    assert retrieved(engine, chunks) == b"+OK Top of message\r\n" + expected + b".\r\n"


@pytest.mark.parametrize("message", [b"", b"A: b", b"\r\nbody", b"A: b\r\n\r\n1\r\n2\r\n3"])
def test_top_of_a_short_message_is_all_of_it(message: bytes):
    engine = logged_in()
    engine.receive(b"TOP 1 5\r\nTOP 1 9999999999\r\nRETR 1\r\n")
    whole = message + b"\r\n.\r\n" if message else b".\r\n"
    for first in (b"+OK Top of message\r\n", b"+OK Top of message\r\n", b"+OK 120 octets\r\n"):
        assert retrieved(engine, [message]) == first + whole


def test_refused_top_does_not_cut_the_next_message():
    engine = logged_in()
    engine.receive(b"TOP 1 0\r\nRETR 1\r\n")
    assert engine.next_event() == Retrieve(0)
    engine.refuse("Gone")
    assert engine.data_to_send() == b"-ERR Gone\r\n"
    assert retrieved(engine, [b"A: b\r\n\r\nbody\r\n"]).endswith(b"\r\n\r\nbody\r\n.\r\n")


def test_answers_out_of_turn_are_bugs():
    engine = logged_in()
    for answer in (engine.accept_quit, engine.begin_message, engine.end_message, engine.accept_starttls):
        with pytest.raises(RuntimeError):
            answer()
    with pytest.raises(RuntimeError):
        engine.refuse("why?")
    engine.receive(b"RETR 1\r\n")
    engine.next_event()
    engine.begin_message()
    with pytest.raises(RuntimeError):
        engine.refuse("too late")


def test_endless_line_ends_the_session():
    engine = connected()
    for _ in range(OPTIONS.max_line // 1000 + 1):
        engine.receive(b"x" * 1000)
        engine.next_event()
    assert engine.closed
    assert engine.data_to_send() == b"-ERR Line too long\r\n"


def test_too_many_errors_end_the_session():
    engine = connected()
    engine.receive(b"XYZZY\r\n" * 100)
    engine.next_event()
    assert engine.closed
    assert engine.data_to_send().count(b"-ERR") == OPTIONS.max_errors


def test_too_many_wrong_passwords_end_the_session():
    engine = connected()
    engine.receive(LOGIN * 100)
    attempts = 0
    while isinstance(engine.next_event(), UserPass):
        engine.refuse("Wrong", "AUTH")
        attempts += 1
    assert attempts == OPTIONS.max_errors


def test_pipelined_listings_wait_until_the_client_reads():
    """43,000 LISTs fit into one read; their answers must not all lie in memory."""
    engine = connected()
    engine.receive(LOGIN)
    engine.next_event()
    engine.accept_login(Maildrop(1, range(1, 5001), [100] * 5000))
    engine.receive(b"LIST\r\n" * 1000)
    waits = 0
    while engine.next_event() == OutputWaits():
        assert len(engine.data_to_send()) < 2 * OUTPUT_LIMIT
        waits += 1
    assert waits >= 499


def transcript(engine: Pop3ServerEngine, pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """Events and output where every event gets a fixed answer."""
    events: list[Event] = []
    output = b""
    for piece in [*pieces, b""]:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Pause):
            events.append(event)
            answer(engine, event)
        output += engine.data_to_send()
    return events, output


def answer(engine: Pop3ServerEngine, event: Event) -> None:
    match event:
        case StartTls():
            engine.refuse("No")
        case UserPass(login="mallory"):
            engine.refuse("No", "AUTH")
        case Auth():
            engine.auth_challenge(b"c")
        case UserPass() | AuthResponse():
            engine.accept_login(maildrop())
        case Retrieve():
            engine.begin_message()
            engine.message(b"A: b\r\n\r\n.\r\n")
            engine.end_message()
        case Quit():
            engine.accept_quit()
        case AuthCancelled() | OutputWaits():
            pass


COMMANDS = [
    b"CAPA", b"STLS", b"USER alice", b"USER mallory", b"PASS x y", b"AUTH PLAIN", b"AUTH PLAIN =", b"AAAA", b"*",
    b"STAT", b"LIST", b"UIDL 2", b"RETR 1", b"TOP 3 1", b"DELE 1", b"RSET", b"NOOP", b"QUIT", b"", b"\xff",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(COMMANDS), max_size=15),
    st.booleans(),
    st.lists(st.integers(1, 20), min_size=1, max_size=20),
)
@settings(max_examples=100, deadline=None)
def test_any_segmentation_gives_the_same_events(commands: list[bytes], logged: bool, steps: list[int]):
    data = (LOGIN if logged else b"") + b"".join([command + b"\r\n" for command in commands])
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        step = steps[len(pieces) % len(steps)]
        pieces.append(data[start : start + step])
        start += step
    assert transcript(connected(), pieces) == transcript(connected(), [data])


@given(
    st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"\r", b"a", b"..", b"\r\n."]), max_size=30), st.integers(1, 5)
)
@settings(max_examples=100, deadline=None)
def test_chunks_do_not_change_what_a_message_becomes(pieces: list[bytes], step: int):
    message = b"".join(pieces)
    answers = set[bytes]()
    for chunks in ([message], [message[i : i + step] for i in range(0, len(message), step)]):
        engine = logged_in()
        engine.receive(b"RETR 1\r\n")
        answers.add(retrieved(engine, chunks))
    assert len(answers) == 1
    body = answers.pop().removeprefix(b"+OK 120 octets\r\n")
    assert body.endswith(b".\r\n")
    lines = body.split(b"\n")
    assert b".\r" not in lines[:-2]
    assert [line for line in lines[:-2] if line.startswith(b".") and not line.startswith(b"..")] == []
