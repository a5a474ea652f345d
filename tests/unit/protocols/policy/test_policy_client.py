"""protocols/policy/client.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.policy.client import MAX_ANSWER, Action, Broken, PolicyClientEngine


def asked() -> PolicyClientEngine:
    engine = PolicyClientEngine()
    engine.ask({"request": "smtpd_access_policy"})
    engine.data_to_send()
    return engine


def test_a_request_is_lines_and_an_empty_one():
    engine = PolicyClientEngine()
    engine.ask({"request": "smtpd_access_policy", "sender": ""})
    assert engine.data_to_send() == b"request=smtpd_access_policy\nsender=\n\n"


def test_no_value_ends_a_line():
    engine = PolicyClientEngine()
    engine.ask({"helo_name": "a\n\naction=OK\r\0", "sender": "x" * 5000})
    assert engine.data_to_send() == b"helo_name=a??action=OK??\nsender=" + b"x" * 1024 + b"\n\n"


@given(st.lists(st.integers(1, 40)))
def test_however_it_is_cut_the_answer_is_the_same(cuts):
    engine, rest = asked(), b"x=1\naction=PREPEND X-A: b=c\n\n"
    for cut in cuts:
        part, rest = rest[:cut], rest[cut:]
        if part:
            engine.receive(part)
            if rest:
                assert engine.next_event() is NEED_DATA
    if rest:
        engine.receive(rest)
    assert engine.next_event() == Action("PREPEND X-A: b=c")
    engine.ask({"request": "again"})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\n", "no action"),
        (b"OK\n\n", "no name=value"),
        (b"action=" + b"x" * 9000, "too long"),
        (b"a=b\n" * (MAX_ANSWER // 4 + 1), "too long"),
        (b"action=OK\n", "closed"),
    ],
)
def test_an_answer_that_is_none_ends_the_connection(answer, reason):
    engine = asked()
    for start in range(0, len(answer), 8192):
        engine.receive(answer[start : start + 8192])
        event = engine.next_event()
        if isinstance(event, Broken):
            break
    else:
        engine.receive(b"")
        event = engine.next_event()
    assert isinstance(event, Broken)
    assert reason in event.reason


def test_a_service_that_speaks_unasked_is_of_no_use():
    engine = PolicyClientEngine()
    engine.receive(b"action=OK\n\n")
    assert isinstance(engine.next_event(), Broken)
