"""The server of tcp_table(5)."""

import pytest

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.socketmap.server import Lookup
from posthouse.protocols.tcptable.server import MAX_LINE, TcpTableEngine


def asked(data: bytes) -> TcpTableEngine:
    engine = TcpTableEngine("virtual")
    engine.receive(data)
    return engine


def test_questions_are_answered_one_after_the_other():
    engine = asked(b"get alice%2Bx@example.test\nget%20?\nget b%25%zz%C3%A9\n")
    assert engine.next_event() == Lookup("virtual", "alice+x@example.test")
    assert engine.next_event() is NEED_REPLY
    engine.found("a b,100%\né")
    assert engine.next_event() == Lookup("virtual", "b%%zzé")
    engine.not_found()
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == b"200 a%20b,100%25%0A%C3%A9\n400 only get is understood\n500 not found\n"


@pytest.mark.parametrize("answer", [TcpTableEngine.temporary, TcpTableEngine.permanent])
def test_what_went_wrong_is_to_be_asked_again(answer):
    engine = asked(b"get a\n")
    engine.next_event()
    answer(engine, "No luck\n200 x")
    assert engine.data_to_send() == b"400 No luck 200 x\n"


def test_a_value_that_postfix_would_not_read_is_an_error():
    engine = asked(b"get a\n")
    engine.next_event()
    engine.found(" " * (MAX_LINE // 3))
    assert engine.data_to_send() == b"400 the value is too long\n"


def test_a_line_that_is_too_long_closes_the_connection():
    engine = asked(b"get " + b"x" * MAX_LINE)
    assert engine.next_event() is NEED_DATA
    assert (engine.closed, bool(engine.error)) == (True, True)


def test_any_segmentation_gives_the_same_events():
    data = b"get a\r\nput b\nget c%40d\n"
    for size in range(1, len(data) + 1):
        engine, seen = TcpTableEngine("virtual"), []
        for start in range(0, len(data), size):
            engine.receive(data[start : start + size])
            while isinstance(event := engine.next_event(), Lookup):
                seen.append(event.key)
                engine.not_found()
        assert seen == ["a", "c@d"]
        assert engine.data_to_send() == b"500 not found\n400 only get is understood\n500 not found\n"
