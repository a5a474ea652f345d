"""protocols/spamc/client.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.spamc.client import MAX_ANSWER, Broken, Learned, Scored, SpamdAnswer, check, learn

SPAM = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 18\r\nSpam: True ; 1000.1 / 5.0\r\n\r\nGTUBE,MISSING_DATE"


def answer(*parts: bytes) -> object:
    engine = SpamdAnswer()
    for part in parts:
        assert engine.next_event() is NEED_DATA
        engine.receive(part)
    engine.receive(b"")
    return engine.next_event()


def test_a_question_says_how_long_the_message_is_and_for_whom():
    assert check(12) == b"SYMBOLS SPAMC/1.5\r\nContent-length: 12\r\n\r\n"
    assert check(1, "a\r\nEvil: b") == b"SYMBOLS SPAMC/1.5\r\nContent-length: 1\r\nUser: a??Evil:?b\r\n\r\n"
    assert learn(3, is_spam=False, user="a@b") == (
        b"TELL SPAMC/1.5\r\nContent-length: 3\r\nUser: a@b\r\nMessage-class: ham\r\nSet: local\r\n\r\n"
    )


@given(st.lists(st.integers(1, 40)))
def test_however_it_is_cut_the_score_is_the_same(cuts):
    parts, rest = [], SPAM
    for cut in cuts:
        if rest:
            parts.append(rest[:cut])
            rest = rest[cut:]
    assert answer(*parts, *([rest] if rest else [])) == Scored(True, 1000.1, 5.0, ("GTUBE", "MISSING_DATE"))


def test_what_is_no_spam_has_a_score_too():
    assert answer(b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; -0.5 / 5.0\r\n\r\n") == Scored(False, -0.5, 5.0, ())


def test_what_was_learned_is_told():
    assert answer(b"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n") == Learned(frozenset({"local"}))
    assert answer(b"SPAMD/1.1 0 EX_OK\r\n\r\n") == Learned(frozenset())


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n", SPAM[:-3], SPAM[:30], b"SPAMD/1.1 76 Bad header line\r\n\r\n",
     b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; many / 5.0\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_answer_is_no_score(data):
    assert isinstance(answer(*([data] if data else [])), Broken)


def test_an_answer_without_end_ends():
    engine = SpamdAnswer()
    engine.receive(b"x" * (MAX_ANSWER + 1))
    assert isinstance(engine.next_event(), Broken)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(data):
    engine = SpamdAnswer()
    engine.receive(data or b"x")
    engine.receive(b"")
    assert isinstance(engine.next_event(), Broken | Learned | Scored)
