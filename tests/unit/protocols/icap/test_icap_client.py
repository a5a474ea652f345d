"""protocols/icap/client.py"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.icap.client import MAX_HEAD, Broken, Found, IcapAnswer, Unchanged, chunk, end, request

CLEAN = b"ICAP/1.0 204 No Content\r\nISTag: x\r\n\r\n"
VIRUS = (
    b"ICAP/1.0 200 OK\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Eicar-Test;\r\n"
    b"Encapsulated: res-hdr=0, res-body=100\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n"
)


def answer(*parts: bytes, closes: bool = True) -> object:
    engine = IcapAnswer()
    for part in parts:
        engine.receive(part)
        engine.next_event()
    if closes:
        engine.receive(b"")
    return engine.next_event()


def test_a_question_says_where_its_parts_begin():
    """RFC 3507 §4.4.1."""
    head, _, rest = request("avscan", "127.0.0.1:1344", "a b\r\n.eml").partition(b"\r\n\r\n")
    assert head.startswith(b"RESPMOD icap://127.0.0.1:1344/avscan ICAP/1.0\r\n")
    places = [int(number) for number in re.findall(rb"=(\d+)", head)]
    assert rest[places[0] :].startswith(b"GET http://mail/a?b??.eml HTTP/1.1\r\n")
    assert rest[places[1] :].startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(rest) == places[2]


def test_the_message_goes_out_in_chunks():
    assert chunk(b"x" * 20) + chunk(b"") + end() == b"14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (CLEAN, Unchanged()),
        (VIRUS, Found("Eicar-Test")),
        (b"ICAP/1.0 200 OK\r\nX-Virus-ID: EICAR\r\n\r\n", Found("EICAR")),
        (b"ICAP/1.0 200 OK\r\n\r\nHTTP/1.0 403 No\r\n", Found("what the scanner answers with HTTP 403")),
    ],
)
def test_the_answer_says_what_was_found(data, event):
    assert answer(data, closes=False) == event


@pytest.mark.parametrize(
    "data",
    [b"", b"ICAP/1.0 204", b"HTTP/1.1 204 No\r\n\r\n", b"ICAP/1.0 404 None\r\n\r\n", b"ICAP/1.0 100 Continue\r\n\r\n",
     b"ICAP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", b"ICAP/1.0 200 OK\r\n\r\n", b"x" * (MAX_HEAD + 1)],
)  # fmt: skip
def test_what_is_no_answer_is_never_clean(data):
    assert isinstance(answer(*([data] if data else [])), Broken)


@given(st.sampled_from([CLEAN, VIRUS, VIRUS.replace(b"X-Inf", b"X-Unk"), b"nonsense"]), st.lists(st.integers(1, 40)))
def test_however_it_is_cut_the_answer_is_the_same(data, cuts):
    parts, rest = [], data
    for cut in cuts:
        if rest:
            parts.append(rest[:cut])
            rest = rest[cut:]
    assert answer(*parts, *([rest] if rest else [])) == answer(data)


def test_it_waits_for_the_end_of_the_header():
    engine = IcapAnswer()
    engine.receive(CLEAN[:-1])
    assert engine.next_event() is NEED_DATA
