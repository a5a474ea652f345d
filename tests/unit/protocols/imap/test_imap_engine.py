"""The engine: commands, literals, states, limits, and any segmentation of the same bytes."""

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.query import STAR
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.imap import commands
from posthouse.protocols.imap.commands import AppendStart, Command, Replaced
from posthouse.protocols.imap.engine import ImapServerEngine
from posthouse.protocols.imap.events import (
    AuthCancelled,
    AuthResponse,
    CatenateUrl,
    CommandAborted,
    CommandEnd,
    IdleDone,
    LiteralChunk,
    MessageStart,
)
from posthouse.protocols.imap.render import no, ok
from posthouse.protocols.imap.states import Limits, State

DONE = ok("done")


def engine_in(state: State, limits: Limits | None = None) -> ImapServerEngine:
    engine = ImapServerEngine(limits)
    engine.state = state
    return engine


def logged_in(limits: Limits | None = None) -> ImapServerEngine:
    return engine_in(State.AUTHENTICATED, limits)


def drive(engine: ImapServerEngine, chunks: list[bytes]) -> tuple[list[object], bytes]:
    """Everything the bytes mean, answered as a simple driver would; literal chunks joined."""
    events: list[object] = []
    output = b""
    for chunk in chunks:
        engine.receive(chunk)
        while (event := engine.next_event()) is not NEED_DATA:
            assert event is not NEED_REPLY
            if isinstance(event, LiteralChunk) and events and isinstance(events[-1], bytes):
                events[-1] += event.data
            else:
                events.append(event.data if isinstance(event, LiteralChunk) else event)
            answer(engine, event)
        output += engine.data_to_send()
    return events, output


def answer(engine: ImapServerEngine, event: object) -> None:
    if isinstance(event, AppendStart):
        engine.accept_literal()
    elif isinstance(event, commands.Idle):
        engine.accept_idle()
    elif isinstance(event, commands.Authenticate):
        engine.auth_challenge(b"who?")
    elif not isinstance(event, LiteralChunk | MessageStart | CatenateUrl | CommandAborted):
        engine.complete(DONE)


def test_a_pipelined_command_waits_for_the_one_before():
    engine = logged_in()
    engine.receive(b"a NOOP\r\nb CHECK\r\n")
    assert engine.next_event() == commands.Noop(b"a")
    assert engine.next_event() is NEED_REPLY
    engine.complete(DONE)
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"a OK done\r\nb BAD Command is not allowed in this state\r\n"


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (State.NOT_AUTHENTICATED, b"a SELECT INBOX"),
        (State.NOT_AUTHENTICATED, b"a APPEND INBOX {3}"),
        (State.AUTHENTICATED, b"a LOGIN x y"),
        (State.AUTHENTICATED, b"a STARTTLS"),
        (State.AUTHENTICATED, b"a FETCH 1 FLAGS"),
        (State.SELECTED, b"a AUTHENTICATE PLAIN"),
        (State.SELECTED, b"a XYZZY"),
        (State.SELECTED, b"a UID NOOP"),
        (State.SELECTED, b"a APPEND INBOX"),
        (State.SELECTED, b"a"),
        (State.SELECTED, b"a "),
    ],
)
def test_a_command_in_the_wrong_state_is_bad(state: State, line: bytes):
    """RFC 3501 §3."""
    engine = engine_in(state)
    events, output = drive(engine, [line + b"\r\n"])
    assert events == []
    assert re.fullmatch(rb"(a|\*) BAD [^\r\n]+\r\n", output)


def test_a_literal_is_asked_for_and_read():
    """RFC 3501 §4.3, §7.5."""
    engine = engine_in(State.NOT_AUTHENTICATED)
    engine.receive(b"A001 LOGIN {11}\r\n")
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"+ OK\r\n"
    engine.receive(b"FRED FOOBAR {7}\r\n")
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"+ OK\r\n"
    engine.receive(b"fat man\r\n")
    assert engine.next_event() == commands.Login(b"A001", "FRED FOOBAR", "fat man")


def test_a_literal_that_is_not_asked_for_needs_no_go_ahead():
    """RFC 7888 §3."""
    engine = engine_in(State.NOT_AUTHENTICATED)
    engine.receive(b"A001 LOGIN {11+}\r\nFRED FOOBAR {7+}\r\nfat man\r\n")
    assert engine.next_event() == commands.Login(b"A001", "FRED FOOBAR", "fat man")
    assert engine.data_to_send() == b""


def test_a_literal_that_claims_four_gigabytes_is_not_asked_for():
    engine = logged_in()
    engine.receive(b"a SELECT {4294967296}\r\nb NOOP\r\n")
    assert engine.next_event() == commands.Noop(b"b")
    assert engine.data_to_send() == b"a BAD [TOOBIG] Literal too large\r\n"


@pytest.mark.parametrize("size", [b"4294967296", b"9" * 5000])
def test_four_gigabytes_that_come_unasked_end_the_connection(size: bytes):
    """RFC 7888 §4: BYE where reading it away makes no sense."""
    engine = logged_in()
    engine.receive(b"a SELECT {" + size + b"+}\r\n")
    assert engine.next_event() is NEED_DATA
    assert engine.closed
    assert b"* BYE [TOOBIG]" in engine.data_to_send()


def test_a_literal_that_is_too_large_and_comes_unasked_is_never_read_as_commands():
    """Its bytes are data, however much they look like commands."""
    engine = logged_in(Limits(max_command_bytes=100))
    hidden = b"x DELETE INBOX\r\n" * 20
    data = b"a SELECT {%d+}\r\n%b {5+}\r\nab\r\nc more\r\nb NOOP\r\n" % (len(hidden), hidden)
    events, output = drive(engine, [data])
    assert events == [commands.Noop(b"b")]
    assert output == b"a BAD [TOOBIG] Literal too large\r\nb OK done\r\n"


def test_commands_that_arrive_together_with_the_end_of_a_line_too_long_are_heard():
    """What is thrown away ends where the line does, or a literal behind it would be read as commands."""
    engine = logged_in(Limits(max_line_bytes=1000))
    events, output = drive(engine, [b"a SELECT " + b"x" * 2500 + b"\r\nb SELECT {6+}\r\nc NOOP\r\nd NOOP\r\n"])
    assert events == [commands.Select(b"b", "c NOOP", False), commands.Noop(b"d")]
    assert output == b"a BAD [TOOBIG] Line too long\r\nb OK done\r\nd OK done\r\n"


def test_a_line_without_end_is_thrown_away_as_it_comes():
    """A 50 MB line: one BAD, and the next command works."""
    engine = logged_in()
    engine.receive(b"a SELECT ")
    for _ in range(50):
        engine.receive(b"x" * (1 << 20))
        assert engine.next_event() is NEED_DATA
        assert len(engine._input) < 1 << 18
    events, output = drive(engine, [b"\r\nb NOOP\r\n"])
    assert events == [commands.Noop(b"b")]
    assert output == b"a BAD [TOOBIG] Line too long\r\nb OK done\r\n"


def test_append_hands_its_message_on_in_chunks():
    """RFC 3501 §6.3.11: the whole never sits in memory."""
    engine = logged_in()
    engine.receive(b"A003 APPEND saved (\\Seen) {10}\r\n")
    assert engine.next_event() == AppendStart(b"A003", "saved", frozenset({"\\Seen"}), None, 10)
    assert engine.next_event() is NEED_REPLY
    engine.accept_literal()
    assert engine.data_to_send() == b"+ OK\r\n"
    engine.receive(b"12345")
    assert engine.next_event() == LiteralChunk(b"12345")
    engine.receive(b"67890\r\n")
    assert engine.next_event() == LiteralChunk(b"67890")
    assert engine.next_event() == CommandEnd()
    engine.complete(ok("APPEND completed"))
    assert engine.data_to_send() == b"A003 OK APPEND completed\r\n"


def test_append_takes_its_mailbox_as_a_literal_too():
    events, _ = drive(logged_in(), [b"a APPEND {5}\r\nsaved {3}\r\nabc\r\n"])
    assert events == [AppendStart(b"a", "saved", frozenset(), None, 3), b"abc", CommandEnd()]


@pytest.mark.parametrize("mark", [b"{20}", b"{20+}"])
def test_append_that_is_refused_leaves_no_bytes_behind(mark: bytes):
    engine = logged_in()
    engine.receive(b"a APPEND nowhere " + mark + b"\r\n")
    assert isinstance(engine.next_event(), AppendStart)
    engine.complete(no("No such mailbox", "TRYCREATE"))
    if b"+" in mark:
        assert engine.data_to_send() == b""
        engine.receive(b"b DELETE INBOX\r\n5678\r\n")
    engine.receive(b"c NOOP\r\n")
    assert engine.next_event() == commands.Noop(b"c")
    assert engine.data_to_send() == b"a NO [TRYCREATE] No such mailbox\r\n"


@pytest.mark.parametrize("mark", [b"{101}", b"{101+}"])
def test_a_message_that_is_too_large_is_refused_before_it_is_read(mark: bytes):
    engine = logged_in(Limits(max_append_bytes=100))
    body = b"z" * 101 + b"\r\n" if b"+" in mark else b""
    events, output = drive(engine, [b"a APPEND INBOX " + mark + b"\r\n" + body + b"b NOOP\r\n"])
    assert events == [commands.Noop(b"b")]
    assert output.startswith(b"a NO [TOOBIG] ")


def test_an_append_may_have_several_messages_in_pieces():
    """RFC 3502 §6.3.11, RFC 4469 §5."""
    engine = logged_in()
    events, output = drive(
        engine,
        [
            b'a APPEND saved (\\Seen) {3}\r\nabc CATENATE (URL "/x/;UID=20" TEXT {2}\r\nde URL /y/;UID=3)',
            b' "07-Feb-1994 22:43:04 -0800" ~{1+}\r\nf\r\n',
        ],
    )
    moment = datetime(1994, 2, 7, 22, 43, 4, tzinfo=timezone(timedelta(hours=-8)))
    assert events == [
        AppendStart(b"a", "saved", frozenset({"\\Seen"}), None, 3),
        b"abc",
        MessageStart(frozenset(), None),
        CatenateUrl("/x/;UID=20"),
        b"de",
        CatenateUrl("/y/;UID=3"),
        MessageStart(frozenset(), moment),
        b"f",
        CommandEnd(),
    ]
    assert output == b"+ OK\r\n+ OK\r\na OK done\r\n"


def test_replace_names_its_message():
    """RFC 8508 §4."""
    engine = engine_in(State.SELECTED)
    events, _ = drive(engine, [b"a UID REPLACE 7 Drafts (\\Draft) {1+}\r\nx\r\nb REPLACE * Drafts {1+}\r\ny\r\n"])
    replaced = [event.replaced for event in events if isinstance(event, AppendStart)]
    assert replaced == [Replaced(7, uid=True), Replaced(STAR, uid=False)]
    events, output = drive(engine, [b"c REPLACE 1 x {1+}\r\ny {1+}\r\nz\r\n"])
    assert events[-1] == CommandAborted()
    assert output.startswith(b"c BAD ")


def test_an_append_of_urls_alone_needs_no_literal():
    engine = logged_in()
    engine.receive(b"a APPEND x CATENATE (URL /x/;UID=1)\r\nb APPEND y CATENATE (URL /x/;UID=1)\r\n")
    assert engine.next_event() == AppendStart(b"a", "x", frozenset(), None, None)
    engine.accept_literal()
    assert engine.next_event() == CatenateUrl("/x/;UID=1")
    assert engine.next_event() == CommandEnd()
    engine.complete(DONE)
    assert isinstance(engine.next_event(), AppendStart)
    engine.complete(no("No such mailbox"))
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"a OK done\r\nb NO No such mailbox\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"APPEND x",
        b"APPEND x CATENATE ()",
        b"APPEND x CATENATE (URL /x) y",
        b"APPEND x CATENATE (URL /x {1+}",
        b"APPEND x UTF8 (~{1+}",
        b"APPEND x CATENATE (PART /x)",
        b"REPLACE 1 x {1+}",
    ],
)
def test_appends_that_the_grammar_does_not_have_are_refused(line: bytes):
    engine = logged_in()
    tail = b"\r\na\r\n" if line.endswith(b"}") else b"\r\n"
    events, output = drive(engine, [b"a " + line + tail + b"b NOOP\r\n"])
    assert events[-1] == commands.Noop(b"b")
    assert output.startswith(b"a BAD ")


def test_utf8_is_for_those_who_enabled_it():
    """RFC 6855 §4."""
    engine = logged_in()
    engine.enabled.add(b"UTF8=ACCEPT")
    events, output = drive(engine, [b"a APPEND x UTF8 (~{3+}\r\nabc)\r\nb APPEND x UTF8 (~{3+}\r\nabc\r\n"])
    assert events[:3] == [AppendStart(b"a", "x", frozenset(), None, 3), b"abc", CommandEnd()]
    assert output.startswith(b"a OK done\r\nb BAD ")


def test_words_after_an_appended_message_undo_it():
    events, output = drive(logged_in(), [b"a APPEND INBOX {3+}\r\nabc x {4+}\r\ndefg\r\nb NOOP\r\n"])
    assert events[1:] == [b"abc", CommandAborted(), commands.Noop(b"b")]
    assert output.startswith(b"a BAD ")


def test_an_append_of_nothing_can_be_refused():
    engine = logged_in()
    engine.receive(b"a APPEND INBOX {0+}\r\n\r\nb NOOP\r\n")
    assert engine.next_event() == AppendStart(b"a", "INBOX", frozenset(), None, 0)
    engine.complete(no("empty"))
    assert engine.next_event() == commands.Noop(b"b")
    assert engine.data_to_send() == b"a NO empty\r\n"


def test_sasl_challenges_and_responses_are_base64():
    """RFC 3501 §6.2.2."""
    engine = engine_in(State.NOT_AUTHENTICATED)
    engine.receive(b"a AUTHENTICATE LOGIN\r\n")
    assert engine.next_event() == commands.Authenticate(b"a", "LOGIN", None)
    engine.auth_challenge(b"Username:")
    assert engine.data_to_send() == b"+ VXNlcm5hbWU6\r\n"
    engine.receive(b"YWxpY2U=\r\n")
    assert engine.next_event() == AuthResponse(b"alice")
    engine.auth_challenge(b"")
    assert engine.data_to_send() == b"+ \r\n"
    engine.receive(b"*\r\n")
    assert engine.next_event() == AuthCancelled()
    engine.complete(DONE)
    engine.receive(b"b NOOP\r\n")
    assert engine.next_event() == commands.Noop(b"b")


@pytest.mark.parametrize(("line", "clean"), [(b"done\r\n", True), (b"b NOOP\r\n", False)])
def test_idle_lasts_until_the_client_speaks(line: bytes, clean: bool):
    """RFC 2177."""
    engine = logged_in()
    engine.receive(b"a IDLE\r\n")
    assert engine.next_event() == commands.Idle(b"a")
    engine.accept_idle()
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"+ idling\r\n"
    engine.receive(line)
    assert engine.next_event() == IdleDone(clean)
    engine.complete(DONE)
    assert engine.data_to_send() == b"a OK done\r\n"


def test_what_came_in_clear_is_dropped_when_tls_starts():
    """RFC 3501 §6.2.1; the STARTTLS command injections of 2011 and 2021."""
    engine = ImapServerEngine()
    engine.receive(b"a STARTTLS\r\nb LOGIN evil evil\r\n")
    assert engine.next_event() == commands.StartTls(b"a")
    engine.complete(DONE)
    engine.start_layer()
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"a OK done\r\n"


def test_too_many_bad_commands_end_the_connection():
    engine = logged_in()
    events, output = drive(engine, [b"a XYZZY\r\n" * 30])
    assert events == []
    assert engine.closed
    assert output.count(b"BAD") == 20
    assert output.endswith(b"* BYE Too many bad commands\r\n")


def test_the_end_of_the_stream_closes_after_what_was_received():
    engine = logged_in()
    engine.receive(b"a NOOP\r\nb NO")
    engine.receive(b"")
    assert isinstance(engine.next_event(), Command)
    engine.complete(DONE)
    assert engine.next_event() is NEED_DATA
    assert engine.closed


CONVERSATION = (
    b"a1 NOOP\r\n"
    b"a2 SELECT {5}\r\nINBOX\r\n"
    b"a3 XYZZY {3+}\r\nabc\r\n"
    b"a4 APPEND {5+}\r\nsaved (\\Seen) {12+}\r\nx DELETE y\r\n\r\n"
    b'a5 STORE 1:4,* +FLAGS (\\Seen "x)\r\n'
    b"a6 IDLE\r\nDONE\r\n"
    b'a7 LIST "" {1}\r\n%\r\n'
    b"a8 SELECT {999999+}\r\n" + b"zz\r\n" * 249_999 + b"zzz\r\n"
    b"a9 STATUS INBOX (MESSAGES)\n"
    b"b1 APPEND x {3}\r\nabc oops\r\n"
    b"\r\n"
    b"b2 NOOP\r\n"
    b"b3 APPEND x (\\Seen) {3+}\r\nabc (\\Draft) ~{2+}\r\nde CATENATE (URL /x TEXT {1+}\r\nf URL /y/;UID=2)\r\n"
    b"b4 APPEND x CATENATE (URL /x/;UID=1)\r\n"
    b"b5 APPEND x {1+}\r\na (\\Seen {5+}\r\nb NOO\r\n"
)


@given(st.lists(st.integers(1, 700), max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_segmentation_of_the_same_bytes_gives_the_same_events(cuts: list[int]):
    whole = drive(logged_in(), [CONVERSATION])
    chunks: list[bytes] = []
    start = 0
    for cut in cuts:
        chunks.append(CONVERSATION[start : start + cut])
        start += cut
    chunks.append(CONVERSATION[start:])
    chunks = [chunk for chunk in chunks if chunk]
    assert drive(logged_in(), chunks) == whole
    assert len(whole[0]) == 28


def test_single_octets_give_the_same_events():
    short = CONVERSATION[: CONVERSATION.index(b"a8")]
    assert drive(logged_in(), [short[i : i + 1] for i in range(len(short))]) == drive(logged_in(), [short])
