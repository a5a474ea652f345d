"""The line buffer that the engines share."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.engine import LineBuffer, LineTooLongError


def test_lines_end_in_crlf_or_lf_and_come_without_their_ends() -> None:
    buffer = LineBuffer(100)
    buffer.feed(b"one\r\ntwo\nthr")
    assert [buffer.line(), buffer.line(), buffer.line()] == [b"one", b"two", None]
    buffer.feed(b"ee\r")
    assert buffer.line() is None
    buffer.feed(b"\n")
    assert buffer.line() == b"three"
    assert len(buffer) == 0


def test_a_line_of_exactly_the_limit_passes_and_one_octet_more_does_not() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"12345678\r\n123456789\r\n")
    assert buffer.line() == b"12345678"
    with pytest.raises(LineTooLongError):
        buffer.line()


def test_a_line_is_too_long_as_soon_as_the_limit_is_reached_without_an_end() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"123456789")
    assert buffer.line() is None
    buffer.feed(b"0")
    with pytest.raises(LineTooLongError):
        buffer.line()


def test_octets_taken_can_be_put_back() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"abcdef\r\n")
    assert buffer.take(4) == b"abcd"
    buffer.untake(2)
    assert buffer.line() == b"cdef"
    assert buffer.take(4) == b""


@given(st.lists(st.binary(max_size=12), max_size=12))
@settings(max_examples=100, deadline=None)
def test_lines_do_not_depend_on_how_the_input_is_cut(pieces: list[bytes]) -> None:
    whole, cut = LineBuffer(1000), LineBuffer(1000)
    whole.feed(b"".join(pieces))
    expected = list(iter(whole.line, None))
    lines: list[bytes] = []
    for piece in pieces:
        cut.feed(piece)
        lines += iter(cut.line, None)
    assert lines == expected
    assert cut.take(1000) == whole.take(1000)
