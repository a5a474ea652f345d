"""Any bytes at the SMTP server engine, cut anywhere."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.smtp_sessions import Server

from posthouse.protocols.smtp.events import Quit

SNIPPETS = [
    b"EHLO a\r\n", b"HELO a\r\n", b"LHLO a\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<a@b> SIZE=5 BODY=8BITMIME\r\n",
    b"MAIL FROM:<nobody@b>\r\n", b"RCPT TO:<a@b>\r\n", b"RCPT TO:<nobody@b>\r\n", b"RCPT TO:<a@b> NOTIFY=NEVER\r\n",
    b"DATA\r\n", b"BDAT 3\r\n", b"BDAT 7 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT 0\r\n", b"RSET\r\n", b"NOOP\r\n",
    b"QUIT\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n", b"AUTH PLAIN c2VjcmV0\r\n", b"c2VjcmV0\r\n", b"*\r\n",
    b"VRFY x\r\n", b"GET / HTTP/1.1\r\n", b"\r\n.\r\n", b".\r\n", b".", b"\r", b"\n", b"\r\n", b"..\r\n", b"\n.\n",
    b"\r\n.\r", b"text", b"\x00", b"\xff\xfe", b"x" * 70, b"x" * 13_000,
]  # fmt: skip

streams = st.one_of(
    st.lists(st.sampled_from(SNIPPETS), max_size=30).map(b"".join),
    st.binary(max_size=300),
    st.lists(st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=8)), max_size=30).map(b"".join),
)
# A beginning that leads into content, where most states are.
beginnings = st.sampled_from([
    b"",
    b"EHLO a\r\n",
    b"LHLO a\r\n",
    b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n",
    b"LHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\nDATA\r\n",
    b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nBDAT 20\r\n",
])  # fmt: skip


def fresh(lmtp: bool) -> Server:
    return Server(lmtp=lmtp, auth=("PLAIN",), max_size_bytes=100, max_errors=10, max_idle_commands=5)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces, none of them empty: that would be its end."""
    borders = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in pairwise(borders)]


@given(beginning=beginnings, rest=streams, places=st.lists(st.integers(0, 100_000), max_size=20), lmtp=st.booleans())
@settings(max_examples=100, deadline=None)
def test_events_and_output_do_not_depend_on_how_the_input_is_cut(
    beginning: bytes, rest: bytes, places: list[int], lmtp: bool
) -> None:
    stream = beginning + rest
    whole, pieces = fresh(lmtp), fresh(lmtp)
    whole.say(*cut(stream, []), b"")
    pieces.say(*cut(stream, places), b"")
    assert pieces.meaning() == whole.meaning()
    assert pieces.messages == whole.messages
    assert pieces.output == whole.output


@given(beginning=beginnings, rest=streams)
@settings(max_examples=50, deadline=None)
def test_octet_by_octet_is_no_different(beginning: bytes, rest: bytes) -> None:
    stream = beginning + rest
    whole, octets = fresh(False), fresh(False)
    whole.say(*cut(stream, []))
    octets.say(*cut(stream, list(range(len(stream)))))
    assert octets.meaning() == whole.meaning()
    assert octets.output == whole.output


@given(beginning=beginnings, rest=streams, lmtp=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_bytes_get_replies_and_leave_little_behind(beginning: bytes, rest: bytes, lmtp: bool) -> None:
    server = fresh(lmtp)
    for piece in cut(beginning + rest, list(range(0, len(rest), 50))):
        server.say(piece)
        assert len(server.engine._buffer) <= 24_576
    for line in server.output.split(b"\r\n")[:-1]:
        assert line[:3].isdigit()
        assert line[3:4] in b" -"
    server.say(b"")
    assert isinstance(server.events[-1], Quit)
    assert server.engine.closed
