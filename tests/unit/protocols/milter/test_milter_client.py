"""protocols/milter: the mail server's side."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.errors import Reply
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.milter.client import MAX_PACKET, MilterClientEngine
from posthouse.protocols.milter.codes import ALL_ACTIONS, ALL_STEPS, MAX_CHUNK, Actions, Steps
from posthouse.protocols.milter.events import (
    AddHeader,
    AddRecipient,
    Answer,
    Broken,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Negotiated,
    Progress,
    Quarantine,
    ReplaceBody,
    ReplyWith,
)

CHANGES = [
    (b"hX-A\0b\n c\0", AddHeader(b"X-A", b"b\n c")),
    (b"i\0\0\0\1X-B\0 v\0", InsertHeader(1, b"X-B", b" v")),
    (b"m\0\0\0\2Subject\0\0", ChangeHeader(2, b"Subject", b"")),
    (b"e<a@example.test>\0", ChangeSender("<a@example.test>")),
    (b"e<a@example.test>\0RET=HDRS ENVID=x\0", ChangeSender("<a@example.test>", "RET=HDRS ENVID=x")),
    (b"+<b@example.test>\0", AddRecipient("<b@example.test>")),
    (b"2<b@example.test>\0NOTIFY=NEVER\0", AddRecipient("<b@example.test>", "NOTIFY=NEVER")),
    (b"-<c@example.test>\0", DeleteRecipient("<c@example.test>")),
    (b"bfirst\r\n", ReplaceBody(b"first\r\n")),
    (b"b" + bytes(range(256)), ReplaceBody(bytes(range(256)))),
    (b"qlooks odd\0", Quarantine("looks odd")),
    (b"p", Progress()),
]


def packet(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


def packets(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = struct.unpack_from("!I", data)[0]
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def negotiated(
    steps: int = 0, actions: int = ALL_ACTIONS, version: int = 6, macros: bytes = b""
) -> MilterClientEngine:
    engine = MilterClientEngine()
    engine.data_to_send()
    engine.receive(packet(b"O" + struct.pack("!III", version, actions, steps) + macros))
    assert isinstance(engine.next_event(), Negotiated)
    return engine


def told(engine: MilterClientEngine) -> list[bytes]:
    return packets(engine.data_to_send())


def agreed(engine: MilterClientEngine) -> None:
    """The milter says continue where it has been asked."""
    if engine.waits:
        assert engine.next_event() is NEED_DATA
        engine.receive(packet(b"c"))
    assert engine.next_event() is Answer.CONTINUE


def at_end(steps: int = 0, actions: int = ALL_ACTIONS) -> MilterClientEngine:
    """A milter that is asked at the end of the message."""
    engine = negotiated(steps, actions)
    engine.connect("client.example", "192.0.2.1", 1234, {})
    agreed(engine)
    engine.mail("a@example.test", (), {})
    agreed(engine)
    engine.rcpt("b@example.test", (), {})
    agreed(engine)
    engine.end_of_headers({})
    agreed(engine)
    engine.end({})
    engine.data_to_send()
    return engine


def test_it_begins_with_the_negotiation_and_offers_everything():
    assert told(MilterClientEngine()) == [b"O" + struct.pack("!III", 6, ALL_ACTIONS, ALL_STEPS)]


def test_a_message_is_told_in_its_stages_with_the_macros_of_each():
    engine = negotiated()
    macros = {"j": "mx.example", "i": "ID1", "{mail_addr}": "a@example.test", "{rcpt_addr}": "", "{other}": "x"}
    engine.connect("client.example", "192.0.2.1", 1234, macros)
    assert told(engine) == [b"DCj\0mx.example\0", b"Cclient.example\x004\x04\xd2192.0.2.1\0"]
    agreed(engine)
    engine.helo("client.example", macros)
    assert told(engine) == [b"Hclient.example\0"]
    agreed(engine)
    engine.mail("a@example.test", ("SIZE=10", "BODY=8BITMIME"), macros)
    assert told(engine) == [
        b"DMi\0ID1\0{mail_addr}\0a@example.test\0",
        b"M<a@example.test>\0SIZE=10\0BODY=8BITMIME\0",
    ]
    agreed(engine)
    engine.rcpt("b@example.test", (), macros)
    assert told(engine) == [b"DRi\0ID1\0", b"R<b@example.test>\0"]
    agreed(engine)
    engine.data(macros)
    assert told(engine) == [b"DTi\0ID1\0", b"T"]
    agreed(engine)
    engine.header(b"Subject", b" long\r\n one")
    assert told(engine) == [b"LSubject\0long\n one\0"]
    agreed(engine)
    engine.end_of_headers(macros)
    assert told(engine) == [b"DNi\0ID1\0", b"N"]
    agreed(engine)
    engine.body(b"x\r\n")
    assert told(engine) == [b"Bx\r\n"]
    agreed(engine)
    engine.end(macros)
    assert told(engine) == [b"DEi\0ID1\0", b"E"]
    agreed(engine)
    engine.mail("", (), {})
    assert told(engine) == [b"M<>\0"]


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("2001:db8::1", b"6\0\x19IPv6:2001:db8::1\0"),
        ("/run/socket", b"L\0\x19/run/socket\0"),
        ("", b"U"),
    ],
)
def test_a_client_without_an_ipv4_address_is_told_by_its_family(address, wire):
    engine = negotiated()
    engine.connect("n", address, 25, {})
    assert told(engine) == [b"Cn\0" + wire]


def test_a_milter_chooses_its_macros():
    engine = negotiated(
        macros=struct.pack("!I", 0) + b"{client_addr}, j daemon_name\0" + struct.pack("!I", 3) + b"\0"
    )
    values = {"j": "mx", "{client_addr}": "192.0.2.1", "{daemon_name}": "d", "v": "1", "i": "ID"}
    engine.connect("n", "", 0, values)
    assert told(engine)[0] == b"DC{client_addr}\x00192.0.2.1\0j\0mx\0{daemon_name}\0d\0"
    agreed(engine)
    engine.mail("a@b", (), values)
    assert told(engine)[0] == b"DMi\0ID\0"
    agreed(engine)
    engine.rcpt("a@b", (), values)
    assert told(engine) == [b"R<a@b>\0"]


def test_what_a_milter_does_not_want_to_hear_is_not_told_but_its_macros_are():
    unwanted = (
        Steps.NO_CONNECT
        | Steps.NO_HELO
        | Steps.NO_MAIL
        | Steps.NO_RCPT
        | Steps.NO_DATA
        | Steps.NO_HEADERS
        | Steps.NO_END_OF_HEADERS
        | Steps.NO_BODY
        | Steps.NO_UNKNOWN
    )
    engine = negotiated(int(unwanted))
    for tell in (
        lambda: engine.connect("n", "", 0, {}),
        lambda: engine.helo("n", {}),
        lambda: engine.mail("a@b", (), {"i": "ID"}),
        lambda: engine.rcpt("a@b", (), {}),
        lambda: engine.data({}),
        lambda: engine.header(b"A", b"b"),
        lambda: engine.end_of_headers({}),
        lambda: engine.body(b"x"),
        lambda: engine.unknown("XYZZY"),
    ):
        tell()
        assert engine.next_event() is Answer.CONTINUE
    engine.end({})
    assert told(engine) == [b"DMi\0ID\0", b"E"]


def test_what_a_milter_does_not_answer_is_told_and_nothing_waits():
    silent = (
        Steps.SILENT_CONNECT
        | Steps.SILENT_HELO
        | Steps.SILENT_MAIL
        | Steps.SILENT_RCPT
        | Steps.SILENT_DATA
        | Steps.SILENT_HEADER
        | Steps.SILENT_END_OF_HEADERS
        | Steps.SILENT_BODY
        | Steps.SILENT_UNKNOWN
    )
    engine = at_end(int(silent))
    engine.receive(packet(b"a"))
    assert engine.next_event() is Answer.ACCEPT
    engine.unknown("XYZZY 1")
    assert engine.next_event() is Answer.CONTINUE
    assert told(engine) == [b"UXYZZY 1\0"]


def test_an_old_milter_is_not_told_what_its_version_does_not_know():
    engine = negotiated(version=2, steps=0, actions=0x3F)
    engine.connect("n", "", 0, {})
    agreed(engine)
    engine.unknown("XYZZY")
    assert engine.next_event() is Answer.CONTINUE
    engine.mail("a@b", (), {})
    agreed(engine)
    engine.data({})
    assert engine.next_event() is Answer.CONTINUE
    assert [each[:1] for each in told(engine)] == [b"C", b"M"]


def test_the_blank_after_the_colon_comes_and_goes_as_agreed():
    engine = at_end(int(Steps.LEADING_SPACE))
    engine.receive(packet(b"c"))
    assert engine.next_event() is Answer.CONTINUE
    engine.mail("a@b", (), {})
    agreed(engine)
    engine.rcpt("a@b", (), {})
    agreed(engine)
    engine.data_to_send()
    engine.header(b"A", b" b")
    assert told(engine) == [b"LA\0 b\0"]


def test_no_string_of_a_client_ends_a_packet_or_another_string():
    engine = negotiated()
    engine.connect("evil\0" + "4\0\x19127.0.0.1\0", "192.0.2.1", 25, {"j": "a\0b"})
    assert told(engine) == [b"DCj\0ab\0", b"Cevil4\x19127.0.0.1\x004\0\x19192.0.2.1\0"]


@pytest.mark.parametrize(("wire", "event"), CHANGES, ids=lambda each: repr(each)[:20])
def test_a_milter_changes_the_message_at_its_end(wire, event):
    engine = at_end()
    engine.receive(packet(wire) + packet(b"c"))
    assert engine.next_event() == event
    assert engine.next_event() is Answer.CONTINUE


@pytest.mark.parametrize(("wire", "_"), CHANGES[:-1], ids=lambda each: repr(each)[:20])
def test_a_change_that_was_not_agreed_on_or_comes_early_ends_the_connection(wire, _):
    engine = at_end(actions=0)
    engine.receive(packet(wire))
    assert isinstance(engine.next_event(), Broken)
    engine = negotiated()
    engine.connect("n", "", 0, {})
    engine.receive(packet(wire))
    assert isinstance(engine.next_event(), Broken)


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        (b"a", Answer.ACCEPT),
        (b"r", Answer.REJECT),
        (b"t", Answer.TEMPFAIL),
        (b"d", Answer.DISCARD),
        (b"f", Answer.SHUTDOWN),
    ],
)
def test_each_plain_answer_ends_what_was_asked(wire, answer):
    engine = at_end()
    engine.receive(packet(wire))
    assert engine.next_event() is answer
    assert not engine.waits


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (b"550 5.7.1 no", Reply(550, "5.7.1", "no")),
        (b"451 4.7.1 100%% sure", Reply(451, "4.7.1", "100% sure")),
        (b"550-5.7.1 one\r\n550 5.7.1 two", Reply(550, "5.7.1", "one\ntwo")),
        (b"554 plain", Reply(554, "", "plain")),
        (b"550 4.7.1 odd", Reply(550, "", "4.7.1 odd")),
        (b"421", Reply(421, "", "")),
    ],
)
def test_a_reply_is_read_with_its_status_and_lines(text, reply):
    engine = at_end()
    engine.receive(packet(b"y" + text + b"\0"))
    assert engine.next_event() == ReplyWith(reply)


@pytest.mark.parametrize(
    "wire",
    [
        b"y250 ok\0", b"y\0", b"y550 no", b"y550 a\r\n551 b\0", b"z", b"O" + bytes(12), b"hX-A\0b", b"hX A\0b\0",
        b"h\0b\0", b"hX:\0b\0", b"i\0\0", b"m\0\0\0\1X-A\0", b"+a@b", b"+\xff\xfe\0", b"-" + b"x" * 3000 + b"\0",
        b"2a\0b\0c\0", b"e", b"q", b"s",
    ],
)  # fmt: skip
def test_what_cannot_be_read_ends_the_connection_for_good(wire):
    engine = at_end()
    engine.receive(packet(wire))
    broken = engine.next_event()
    assert isinstance(broken, Broken)
    engine.receive(packet(b"c"))
    assert engine.next_event() is broken


@pytest.mark.parametrize("size", [0, MAX_PACKET + 1, 2**32 - 1])
def test_a_packet_without_measure_ends_the_connection_before_it_is_there(size):
    engine = at_end()
    engine.receive(struct.pack("!I", size))
    assert isinstance(engine.next_event(), Broken)


def test_the_rest_of_the_body_may_be_skipped_where_that_was_agreed():
    for steps, answer in ((int(Steps.SKIP), Answer.SKIP), (0, None)):
        engine = negotiated(steps)
        engine.connect("n", "", 0, {})
        agreed(engine)
        engine.mail("a@b", (), {})
        agreed(engine)
        engine.rcpt("a@b", (), {})
        agreed(engine)
        engine.end_of_headers({})
        agreed(engine)
        engine.body(b"x")
        engine.receive(packet(b"s"))
        event = engine.next_event()
        assert event is answer if answer else isinstance(event, Broken)


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack("!III", 7, 0, 0),
        struct.pack("!III", 1, 0, 0),
        struct.pack("!III", 6, 0x200, 0),
        struct.pack("!III", 6, 0, 0x200000),
        struct.pack("!II", 6, 0),
        struct.pack("!III", 6, 0, 0) + b"\0\0\0\0j",
    ],
)
def test_a_milter_that_wants_what_was_not_offered_is_not_used(answer):
    engine = MilterClientEngine()
    engine.receive(packet(b"O" + answer))
    assert isinstance(engine.next_event(), Broken)


def test_a_milter_that_speaks_unasked_or_goes_away_is_of_no_use():
    engine = negotiated()
    engine.receive(packet(b"c"))
    assert isinstance(engine.next_event(), Broken)
    engine = negotiated()
    engine.receive(b"")
    assert isinstance(engine.next_event(), Broken)
    engine = MilterClientEngine()
    engine.receive(packet(b"c"))
    assert isinstance(engine.next_event(), Broken)


def test_a_message_that_is_given_up_is_aborted_and_one_that_is_over_is_not():
    engine = negotiated()
    engine.connect("n", "", 0, {})
    agreed(engine)
    engine.abort()
    engine.mail("a@b", (), {})
    agreed(engine)
    engine.data_to_send()
    engine.abort()
    assert told(engine) == [b"A"]
    engine.abort()
    engine.mail("a@b", (), {})
    engine.receive(packet(b"a"))
    assert engine.next_event() is Answer.ACCEPT
    engine.data_to_send()
    engine.abort()
    assert told(engine) == []
    engine.helo("again", {})
    agreed(engine)
    engine.quit()
    assert told(engine) == [b"Hagain\0", b"Q"]


def test_stages_out_of_order_and_questions_at_once_are_bugs():
    engine = negotiated()
    with pytest.raises(RuntimeError):
        engine.rcpt("a@b", (), {})
    engine.connect("n", "", 0, {})
    with pytest.raises(RuntimeError):
        engine.helo("n", {})
    agreed(engine)
    engine.mail("a@b", (), {})
    agreed(engine)
    with pytest.raises(RuntimeError):
        engine.body(b"x")
    with pytest.raises(ValueError):
        engine.body(b"x" * (MAX_CHUNK + 1))


ANSWERS = st.sampled_from([wire for wire, _ in CHANGES] + [b"p", b"z", b"y550 5.1.1 x\0", b"c", b"t"])


def events(parts: list[bytes]) -> list[object]:
    engine = at_end()
    found: list[object] = []
    for part in parts:
        engine.receive(part)
        while not isinstance(event := engine.next_event(), Pause | Broken):
            found.append(event)
        if isinstance(event, Broken):
            return [*found, event]
    return found


@given(st.lists(ANSWERS, max_size=12), st.lists(st.integers(1, 30), max_size=200), st.booleans())
def test_however_it_is_cut_the_events_are_the_same(answers, cuts, closes):
    data = b"".join(map(packet, answers))
    parts, rest = [], data
    for cut in cuts:
        if rest:
            parts.append(rest[:cut])
            rest = rest[cut:]
    parts += [rest] if rest else []
    end = [b""] if closes else []
    assert events([*parts, *end]) == events(([data] if data else []) + end)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(data):
    for engine in (MilterClientEngine(), at_end()):
        engine.receive(data)
        engine.receive(b"")
        for _ in range(100):
            event = engine.next_event()
            if isinstance(event, Broken | Pause):
                break
        assert isinstance(event, Broken)
        assert engine.actions & ~Actions(ALL_ACTIONS) == 0
