"""protocols/http/server.py"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.http.server import MAX_HEAD_BYTES, HttpServerEngine, Rejected, Request

GET = b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def events(*pieces):
    """What an engine says that is given these bytes, each request answered at once; and what it sends."""
    engine, found = HttpServerEngine(), []
    for piece in (*pieces, b""):
        engine.receive(piece)
        while (event := engine.next_event()) is not NEED_DATA:
            found.append(event)
            engine.respond(event.status if isinstance(event, Rejected) else 200, b"content", "text/plain")
    return found, engine.data_to_send(), engine.closed


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\x00\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"\x16\x03\x01" * 3000, 431),
    ],
)
def test_what_is_no_good_request_is_rejected_and_ends_the_connection(request_bytes, status):
    """RFC 9112 §2.2, §3, §5.1, §6.1: what follows is never taken for another request."""
    found, sent, closed = events(request_bytes + GET)
    assert found == [Rejected(status)]
    assert sent.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in sent
    assert (b"Allow: GET, HEAD\r\n" in sent) == (status == 405)
    assert closed


def test_requests_that_follow_each_other_are_answered_in_turn():
    found, sent, _ = events(GET + b"HEAD / HTTP/1.1\r\nhost:x\r\n\r\n" + GET)
    assert found == [Request("GET", "/metrics"), Request("HEAD", "/"), Request("GET", "/metrics")]
    assert sent.count(b"Content-Length: 7\r\n") == 3
    assert sent.count(b"\r\n\r\ncontent") == 2


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\n\r\n"]
)
def test_a_client_that_wants_no_more_is_told_that_it_ends(head):
    found, sent, closed = events(head + GET)
    assert found == [Request("GET", "/")]
    assert b"Connection: close\r\n" in sent
    assert closed


def test_the_next_request_waits_for_the_answer_to_the_one_before():
    engine = HttpServerEngine()
    engine.receive(GET + GET)
    assert engine.next_event() == Request("GET", "/metrics")
    assert engine.next_event() is NEED_REPLY


REQUESTS = st.lists(
    st.sampled_from(
        [GET, b"\r\n", b"HEAD / HTTP/1.1\r\nHost:\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"x\r\n\r\n", b"\r"]
    ),
    max_size=5,
).map(b"".join)


@given(REQUESTS | st.binary(max_size=80), st.lists(st.integers(0, 200), max_size=6))
def test_any_segmentation_of_the_same_bytes_gives_the_same_events(data, cuts):
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(places) if a < b]
    assert events(*pieces) == events(data)
