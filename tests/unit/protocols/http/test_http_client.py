"""protocols/http/client.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.http.client import MAX_BODY, MAX_HEAD, Broken, HttpClientEngine, Response, request

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
CLOSED = b"HTTP/1.0 404 No\r\n\r\nhello"


def answer(*parts: bytes, closes: bool = True) -> object:
    engine = HttpClientEngine()
    for part in parts:
        engine.receive(part)
        engine.next_event()
    if closes:
        engine.receive(b"")
    return engine.next_event()


def test_no_value_of_a_request_ends_a_line():
    head = request("POST", "/checkv2", "rspamd", {"From": "a\r\nEvil: b"}, 7)
    assert head == (
        b"POST /checkv2 HTTP/1.1\r\nHost: rspamd\r\nConnection: close\r\nContent-Length: 7\r\n"
        b"From: a??Evil: b\r\n\r\n"
    )


@pytest.mark.parametrize(("data", "status"), [(SIZED, 200), (CHUNKED, 200), (CLOSED, 404)])
def test_the_answer_is_read_however_its_length_is_said(data, status):
    found = answer(data)
    assert isinstance(found, Response)
    assert (found.status, found.body) == (status, b"hello")


@given(st.sampled_from([SIZED, CHUNKED, CLOSED, CHUNKED[:-9], b"nonsense\r\n\r\n"]), st.lists(st.integers(1, 40)))
def test_however_it_is_cut_the_answer_is_the_same(data, cuts):
    parts, rest = [], data
    for cut in cuts:
        if rest:
            parts.append(rest[:cut])
            rest = rest[cut:]
    assert answer(*parts, *([rest] if rest else [])) == answer(data)


@pytest.mark.parametrize(
    "data",
    [b"", SIZED[:-1], CHUNKED[:-8], b"SMTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nnone\r\n\r\n", b"x" * (MAX_HEAD + 1),
     b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc"],
)  # fmt: skip
def test_what_is_no_answer_is_none(data):
    assert isinstance(answer(*([data] if data else [])), Broken)


def test_it_waits_for_all_of_it():
    assert answer(SIZED[:-1], closes=False) is NEED_DATA
