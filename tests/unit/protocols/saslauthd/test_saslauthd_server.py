"""The server of saslauthd's protocol."""

import pytest

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.saslauthd.server import MAX_STRING, Question, SaslauthdEngine


def question(*strings: bytes) -> bytes:
    return b"".join(len(string).to_bytes(2, "big") + string for string in strings)


ASKED = question(b"alice", b"s\xc3\xa9cret", b"imap", b"example.test")


def test_a_question_is_answered():
    engine = SaslauthdEngine()
    engine.receive(ASKED)
    assert engine.next_event() == Question("alice", "sécret", "imap", "example.test")
    assert engine.next_event() is NEED_REPLY
    engine.accept()
    assert (engine.data_to_send(), engine.closed) == (b"\0\2OK", True)


def test_a_refusal_says_why():
    engine = SaslauthdEngine()
    engine.receive(ASKED)
    engine.next_event()
    engine.refuse("authentication failed")
    assert engine.data_to_send() == b"\0\x18NO authentication failed"


def test_a_client_that_has_closed_its_side_still_gets_its_answer():
    engine = SaslauthdEngine()
    engine.receive(ASKED)
    engine.next_event()
    engine.receive(b"")
    engine.accept()
    assert engine.data_to_send() == b"\0\2OK"


@pytest.mark.parametrize("data", [question(b"a" * (MAX_STRING + 1)), b"\xff\xff", ASKED[:-1]])
def test_what_is_no_question_closes_the_connection(data):
    engine = SaslauthdEngine()
    engine.receive(data)
    assert engine.next_event() is NEED_DATA
    engine.receive(b"")
    assert engine.closed
    assert engine.error


def test_a_client_that_asks_nothing_is_no_mistake():
    engine = SaslauthdEngine()
    engine.receive(b"")
    assert (engine.closed, engine.error) == (True, "")


def test_any_segmentation_gives_the_same_question():
    for size in range(1, len(ASKED)):
        engine = SaslauthdEngine()
        for start in range(0, len(ASKED), size):
            assert engine.next_event() is NEED_DATA
            engine.receive(ASKED[start : start + size])
        assert engine.next_event() == Question("alice", "sécret", "imap", "example.test")
