"""Compressed connections (RFC 4978)."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.imap.deflate import SLICE_BYTES, Deflate


def taken(deflate: Deflate) -> bytes:
    return b"".join(iter(deflate.take, b""))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(1, 50))
def test_any_segmentation_of_the_same_stream_means_the_same(pieces: list[bytes], size: int):
    peer = zlib.compressobj(wbits=-15)
    stream = b"".join(peer.compress(piece) + peer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces)
    deflate, said = Deflate(), b""
    for at in range(0, len(stream), size):
        deflate.receive(stream[at : at + size])
        said += taken(deflate)
    assert said == b"".join(pieces)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=20))
def test_each_thing_that_is_said_can_be_read_at_once_also_after_a_rest(pieces: list[tuple[bytes, bool]]):
    deflate, peer = Deflate(), zlib.decompressobj(-15)
    for piece, rests in pieces:
        assert peer.decompress(deflate.send(piece)) == piece
        if rests:
            deflate.rest()


def test_little_that_stands_for_much_comes_in_slices():
    peer = zlib.compressobj(wbits=-15)
    bomb = peer.compress(b"a" * 20_000_000) + peer.flush(zlib.Z_SYNC_FLUSH)
    deflate = Deflate()
    deflate.receive(bomb)
    sizes = [len(piece) for piece in iter(deflate.take, b"")]
    assert max(sizes) <= SLICE_BYTES
    assert sum(sizes) == 20_000_000


def test_nonsense_and_a_stream_that_has_ended_are_errors():
    deflate = Deflate()
    deflate.receive(b"\xff\xff\xff")
    with pytest.raises(zlib.error):
        deflate.take()
    deflate = Deflate()
    deflate.receive(zlib.compress(b"last", wbits=-15) + b"in clear")
    assert deflate.take() == b"last"
    with pytest.raises(zlib.error):
        deflate.take()
    assert deflate.end()[1] == b"in clear"


def test_its_end_is_the_end_for_the_peer():
    deflate, peer = Deflate(), zlib.decompressobj(-15)
    assert peer.decompress(deflate.send(b"last") + deflate.end()[0] + b"in clear") == b"last"
    assert peer.eof
    assert peer.unused_data == b"in clear"
