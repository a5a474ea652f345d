"""Content: the same octets whatever their way in."""

import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.journal.content import Content

PIECES = st.lists(st.text(alphabet="a\r\n", max_size=6).map(str.encode), max_size=30)


@given(pieces=PIECES, memory_limit=st.integers(0, 60), size=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_any_segmentation_and_memory_limit_gives_the_same_content(tmp_path_factory, pieces, memory_limit, size):
    whole = b"".join(pieces)
    content = Content(str(tmp_path_factory.getbasetemp()), memory_limit)
    for piece in pieces:
        content.write(piece)
    content.finish()
    try:
        assert content.size == len(whole)
        assert content.newlines == whole.count(b"\r\n")
        assert content.linefeeds == whole.count(b"\n")
        assert b"".join(content.chunks(size)) == whole
        assert b"".join(content.chunks(size, lf=True)) == whole.replace(b"\r\n", b"\n")
        assert content.head(7) == whole[:7]
        assert content.in_memory == (len(whole) <= memory_limit)
    finally:
        content.close()


@given(pieces=st.lists(st.sampled_from([b"a", b"\r\n", b"\r", b"\n"]), max_size=40))
@settings(max_examples=50, deadline=None)
def test_content_whose_lines_are_known_to_be_paired_counts_the_same(pieces):
    whole = b"".join(pieces).replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
    paired, plain = Content("", is_paired=True), Content("")
    for content in (paired, plain):
        content.write(whole)
        content.finish()
    assert (paired.newlines, paired.linefeeds, paired.size) == (plain.newlines, plain.linefeeds, plain.size)


def test_content_past_the_limit_leaves_nothing_in_its_directory(tmp_path):
    content = Content(str(tmp_path), memory_limit=10)
    content.write(b"x" * 100)
    content.finish()

    assert not content.in_memory
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError):
        content.data()
    content.close()


def test_content_of_bytes_is_finished():
    content = Content.of(b"a\r\nb\n")

    assert (content.size, content.newlines, content.linefeeds) == (5, 1, 2)
    assert content.data() == b"a\r\nb\n"


def test_content_that_the_disk_took_only_in_part_can_be_thrown_away(tmp_path):
    """A file that is cut short holds back some octets, which it tries to write once more when it is closed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = Content(str(tmp_path))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (131_072, limits[1]))
        content.write(b"x" * (131_072 + 3000))
        with pytest.raises(OSError, match="File too large"):
            content.write(b"x" * 200_000)
        content.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
