"""clamd's protocol: what is sent, and what is made of the answer."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.clamd.client import MAX_ANSWER, Broken, ClamdClientEngine, Clean, Found, TooLarge
from posthouse.protocols.engine import NEED_DATA

ANSWERS = [
    (b"stream: OK\0", Clean()),
    (b"stream: Eicar-Test-Signature FOUND\0", Found("Eicar-Test-Signature")),
    (b"stream: Win.Test.EICAR_HDB-1(44d88612fea8a8f36de82e1278abb02f:68) FOUND\0",
     Found("Win.Test.EICAR_HDB-1(44d88612fea8a8f36de82e1278abb02f:68)")),
    (b"INSTREAM size limit exceeded. ERROR\0", TooLarge()),
    (b"stream: Can't allocate memory ERROR\0", Broken('it said "stream: Can\'t allocate memory ERROR"')),
    (b"UNKNOWN COMMAND\0", Broken("it said 'UNKNOWN COMMAND'")),
    (b"\0", Broken("it said ''")),
    (b"stream: OK\nstream: OK\0", Broken("it said 'stream: OK\\nstream: OK'")),
    (b"stream: \xff FOUND\0", Found("\ufffd")),
]  # fmt: skip


def test_a_message_goes_out_in_chunks_that_say_how_long_they_are():
    engine = ClamdClientEngine()
    engine.begin()
    engine.chunk(b"first")
    engine.chunk(b"")
    engine.chunk(b"second chunk")
    engine.end()
    sent = engine.data_to_send()
    assert sent == b"zINSTREAM\0" + struct.pack("!I", 5) + b"first" + struct.pack("!I", 12) + b"second chunk" + bytes(
        4
    )
    assert engine.data_to_send() == b""


@pytest.mark.parametrize(("answer", "event"), ANSWERS)
def test_an_answer_means_what_clamd_says_and_nothing_more(answer, event):
    engine = ClamdClientEngine()
    assert engine.next_event() is NEED_DATA
    engine.receive(answer)
    assert engine.next_event() == event
    engine.receive(b"stream: OK\0")
    assert engine.next_event() == event


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 80)), st.binary(max_size=20))
def test_any_segmentation_of_the_same_bytes_gives_the_same_events(answer, cuts, rest):
    stream = answer[0] + rest
    engine = ClamdClientEngine()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(places):
        if stream[start:end]:
            engine.receive(stream[start:end])
    engine.receive(b"")
    assert engine.next_event() == answer[1]


@given(st.binary(max_size=200))
def test_whatever_comes_back_only_an_ok_is_clean(data):
    engine = ClamdClientEngine()
    engine.receive(data)
    engine.receive(b"")
    event = engine.next_event()
    assert (event == Clean()) == (data.partition(b"\0")[0].strip() == b"stream: OK" and b"\0" in data)


def test_a_daemon_that_closes_or_floods_has_not_answered():
    engine = ClamdClientEngine()
    engine.receive(b"stream: O")
    engine.receive(b"")
    assert engine.next_event() == Broken("it closed the connection without an answer")
    engine = ClamdClientEngine()
    for _ in range(100):
        engine.receive(b"x" * MAX_ANSWER)
    assert engine.next_event() == Broken("its answer is too long")
