"""COMPRESS=DEFLATE (RFC 4978): the octets of a connection, both ways, as raw deflate streams (RFC 1951).

Invariants:
  1. However little a peer sends stands for however much: it is taken in slices of ``SLICE_BYTES``.
  2. The compressor has about 64 KB, and none while the connection rests; what takes the place of one that was
     dropped refers to nothing before itself, so the peer need not know. The other way needs 40 KB.
"""

import zlib
from typing import Final

SLICE_BYTES: Final = 65_536
WINDOW_BITS: Final = 13  # 8 KB, in 32 KB
MEMORY_LEVEL: Final = 6  # 32 KB
LEVEL: Final = 6
_WIDEST: Final = 15


class Deflate:
    """One connection's compression. Errors are zlib's."""

    __slots__ = ("_compressor", "_inflater", "_waiting")

    def __init__(self) -> None:
        self._compressor = None
        self._inflater = zlib.decompressobj(-_WIDEST)
        self._waiting = b""

    def receive(self, data: bytes) -> None:
        """What came from the peer."""
        self._waiting += data

    def take(self) -> bytes:
        """The next slice of what it means; empty where more must come first. Raises ``zlib.error``."""
        if self._inflater.eof:
            raise zlib.error("the stream has ended")
        data = self._inflater.decompress(self._waiting, SLICE_BYTES)
        self._waiting = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
        return data

    def send(self, data: bytes) -> bytes:
        """What goes to the peer, so that it can read all of ``data``."""
        if self._compressor is None:
            self._compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def rest(self) -> None:
        """Nothing is to be sent for a while."""
        self._compressor = None

    def end(self) -> tuple[bytes, bytes]:
        """The end of the stream for the peer, and what came behind the end of its own, if that is here already."""
        return zlib.compressobj(wbits=-WINDOW_BITS).flush(), self._waiting if self._inflater.eof else b""
