"""The server of socketmap_table(5)."""

import pytest

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.socketmap.server import MAX_REPLY, Lookup, SocketmapEngine


def asked(data: bytes) -> SocketmapEngine:
    engine = SocketmapEngine()
    engine.receive(data)
    return engine


def test_questions_are_answered_one_after_the_other():
    engine = asked(b"26:virtual alice@example.test,11:relocated x,")
    assert engine.next_event() == Lookup("virtual", "alice@example.test")
    assert engine.next_event() is NEED_REPLY
    engine.found("bob@example.test")
    assert engine.next_event() == Lookup("relocated", "x")
    engine.not_found()
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"19:OK bob@example.test,9:NOTFOUND ,"
    assert not engine.closed


def test_a_key_may_have_spaces_and_any_octets():
    assert asked(b'9:a "b c" \xff,').next_event() == Lookup("a", '"b c" \udcff')


def test_what_went_wrong_is_said():
    engine = asked(b"3:a b,3:a b,")
    engine.next_event()
    engine.temporary("Later")
    engine.next_event()
    engine.permanent("No such map")
    assert engine.data_to_send() == b"10:TEMP Later,16:PERM No such map,"


def test_a_request_without_a_key_is_refused_and_the_next_one_answered():
    engine = asked(b"0:,3:abc,3:a b,")
    assert engine.next_event() == Lookup("a", "b")
    assert engine.data_to_send().count(b":PERM ") == 2


def test_a_value_that_postfix_would_not_read_is_an_error():
    engine = asked(b"3:a b,")
    engine.next_event()
    engine.found("x" * MAX_REPLY)
    assert engine.data_to_send() == b"26:PERM the value is too long,"


@pytest.mark.parametrize("data", [b"x", b":", b"get a\n", b"-1:,", b"99999:", b"000003:a b,", b"3:a bc", b"\xb2:"])
def test_what_is_no_netstring_closes_the_connection(data):
    engine = asked(data)
    assert engine.next_event() is NEED_DATA
    assert engine.closed
    assert engine.error


def test_any_segmentation_gives_the_same_events():
    data = b"9:virtual a,1:x,11:virtual b c,3:d e;"
    expected = [Lookup("virtual", "a"), Lookup("virtual", "b c")]
    for size in range(1, len(data) + 1):
        engine, seen = SocketmapEngine(), []
        for start in range(0, len(data), size):
            engine.receive(data[start : start + size])
            while isinstance(event := engine.next_event(), Lookup):
                seen.append(event)
                engine.not_found()
        assert (seen, bool(engine.error)) == (expected, True)
