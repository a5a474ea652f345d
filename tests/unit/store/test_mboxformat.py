"""store/mboxformat.py: what is written is read as the same, and what others wrote is read as they meant it."""

import io
import mailbox

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.store import mboxformat
from posthouse.store.mirror import digest_of

FROM = b"From a@b  Sun Nov 22 01:02:03 2026\n"
FLAGS = st.frozensets(st.sampled_from(["\\Seen", "\\Answered", "\\Flagged", "\\Draft", "\\Deleted", "Work", "$Junk"]))
PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"Subject: x\n", b"Status: RO\n", b"X-Keywords: a\n b\n", b"From ", FROM, b">From x\n",
     b" ", b">>", b"word", b"\xff\x00"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=12).map(b"".join)


def read(data):
    return [raw for _, raw in mboxformat.segments(io.BytesIO(data), 10_000)]


@given(st.lists(st.tuples(TEXTS, FLAGS), max_size=4), FLAGS)
def test_what_is_written_is_read_as_the_same_messages_whatever_is_in_them(messages, others):
    written = b"".join(mboxformat.rendered(data, flags, 1e9) for data, flags in messages)
    segments = read(written)
    assert b"".join(segments) == written
    assert len(segments) == len(messages)
    for raw, (_, flags) in zip(segments, messages, strict=True):
        found = mboxformat.parsed(raw)
        assert (found.flags, found.date, found.is_old) == (flags, 1e9, True)
        again = mboxformat.parsed(mboxformat.ended(mboxformat.flagged(raw, others)))
        assert again.flags == others
        assert digest_of(again.data) == digest_of(found.data)
        rendered = mboxformat.parsed(mboxformat.rendered(found.data, frozenset(), 0.0))
        assert digest_of(rendered.data) == digest_of(found.data)


@given(TEXTS)
def test_any_octets_are_read_or_refused(data):
    try:
        segments = read(data)
    except mboxformat.NoMbox:
        return
    for raw in segments:
        mboxformat.parsed(raw)
        assert len(read(mboxformat.ended(raw) + mboxformat.ended(raw))) == 2


def test_mail_with_its_own_line_ends_and_quotes_comes_out_as_it_went_in():
    data = b"Subject: x\n\nFrom here\n>From there\n\n\nlast"
    (raw,) = read(mboxformat.rendered(data, frozenset(), 1e9))
    assert mboxformat.parsed(raw).data == data + b"\n"


def test_flags_are_those_that_python_reads(tmp_path):
    path = tmp_path / "box"
    path.write_bytes(
        mboxformat.rendered(b"Subject: a\n\nb\n", frozenset({"\\Seen", "\\Flagged", "\\Answered"}), 1e9)
        + mboxformat.rendered(b"Subject: b\n\nb\n", frozenset(), 1e9)
    )
    box = mailbox.mbox(path)
    found = [(each["Subject"], "".join(sorted(each.get_flags()))) for each in box]
    box.close()
    assert found == [("a", "AFOR"), ("b", "O")]


def test_a_message_that_is_too_long_is_left_out_and_no_line_is_too_long():
    data = FROM + b"x" * 200_000 + b"\n\n" + FROM + b"Subject: y\n\n"
    assert [raw is None for _, raw in mboxformat.segments(io.BytesIO(data), 100_000)] == [True, False]
    with pytest.raises(mboxformat.NoMbox):
        read(b"\nSubject: no mbox\n")
