"""Bcc and Resent-Bcc go, everything else stays as it is, however the message is cut."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.blindcopies import BlindCopies
from posthouse.message.headers import fields, header_end


def without(*chunks: bytes) -> bytes:
    dropper = BlindCopies()
    return b"".join([*map(dropper.feed, chunks), dropper.finish()])


CASES = {
    "none": (b"To: a\r\n\r\nBcc: body\r\n", b"To: a\r\n\r\nBcc: body\r\n"),
    "one": (b"To: a\r\nBcc: b\r\nSubject: c\r\n\r\nx\r\n", b"To: a\r\nSubject: c\r\n\r\nx\r\n"),
    "first": (b"bcc: b\r\nTo: a\r\n\r\nx\r\n", b"To: a\r\n\r\nx\r\n"),
    "folded": (b"To: a\r\n b\r\nBCC: b,\r\n\tc,\r\n d\r\nX: y\r\n z\r\n\r\n", b"To: a\r\n b\r\nX: y\r\n z\r\n\r\n"),
    "empty": (b"Bcc:\r\nTo: a\r\n\r\n", b"To: a\r\n\r\n"),
    "only": (b"Bcc: b\r\n\r\nx\r\n", b"\r\nx\r\n"),
    "several": (b"Bcc: b\r\nResent-Bcc: c\r\nResent-To: d\r\nBcc: e\r\n\r\n", b"Resent-To: d\r\n\r\n"),
    "blanks before the colon": (b"Bcc \t: b\r\nTo: a\r\n\r\n", b"To: a\r\n\r\n"),
    "others": (b"Bcc-Note: b\r\nX-Bcc: c\r\nB: d\r\n\r\n", b"Bcc-Note: b\r\nX-Bcc: c\r\nB: d\r\n\r\n"),
    "no header": (b"Hello\r\nBcc: b\r\n\r\n", b"Hello\r\nBcc: b\r\n\r\n"),
    "body from the first line": (b"\r\nBcc: b\r\n", b"\r\nBcc: b\r\n"),
    "no body": (b"To: a\r\nBcc: b\r\n", b"To: a\r\n"),
    "cut short": (b"To: a\r\nBcc", b"To: a\r\nBcc"),
    "a stray line": (b"To: a\r\nwhat is this\r\nBcc: b\r\n\r\n", b"To: a\r\nwhat is this\r\n\r\n"),
    "blank line that is none": (b"Bcc: b\r\n \r\nTo: a\r\n\r\n", b"To: a\r\n\r\n"),
    "endless name": (b"x" * 5000 + b"\r\nBcc: b\r\n", b"x" * 5000 + b"\r\nBcc: b\r\n"),
    "endless blanks": (b"T: a\r\nBcc" + b" " * 5000 + b":\r\n\r\n", b"T: a\r\nBcc" + b" " * 5000 + b":\r\n\r\n"),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize("name", CASES)
def test_blind_copies_go_and_nothing_else_however_it_is_cut(name):
    """RFC 5322 §3.6.3."""
    message, expected = CASES[name]
    assert without(message) == expected
    assert without(*(bytes([octet]) for octet in message)) == expected


LINES = st.sampled_from(
    [
        b"To: a",
        b"Bcc: b",
        b" more",
        b"\tmore",
        b"resent-bcc:",
        b"Bcc",
        b"bcc \t:x",
        b"B",
        b"",
        b"body",
        b"\x00\xff:",
        b":",
    ]
)


@given(st.lists(LINES, max_size=12), st.booleans(), st.lists(st.integers(0, 200), max_size=6))
def test_any_segmentation_of_the_same_bytes_gives_the_same_octets(lines, is_complete, cuts):
    message = b"\r\n".join(lines) + (b"\r\n" if is_complete else b"")
    places = [0, *sorted(cuts), len(message)]
    chunks = [message[start:end] for start, end in pairwise(places)]
    result = without(message)
    assert without(*chunks) == result
    # What goes is what our parser takes for such fields, in a message that has a header at all.
    kept, end = bytearray(), header_end(message)
    last = 0
    if re.match(rb"[!-9;-~]+[ \t]*:|\r\n", message):
        for field in fields(message):
            if field.name.lower() in (b"bcc", b"resent-bcc"):
                kept += message[last : field.start]
                last = field.end
    kept += message[last:]
    assert end <= len(message)
    assert result == bytes(kept)
