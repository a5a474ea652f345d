"""The bytes of one message on their way in: in memory while it is small, in an unlinked file past that.

Invariants:
  1. Memory never exceeds ``memory_limit`` plus one chunk, whatever arrives.
  2. After ``finish()`` nothing changes any more, and any thread may read, several at once.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO

MEMORY_LIMIT = 128 * 1024


class Content:
    """Octets as received, CRLF line ends; ``size``, ``newlines`` and ``linefeeds`` hold after ``finish()``.

    ``newlines`` counts CRLF, ``linefeeds`` every LF: storing LF for CRLF loses nothing when they are equal.
    ``is_paired``: whoever writes has seen to it that there is neither a CR nor an LF outside of a CRLF.
    """

    __slots__ = (
        "_buffer",
        "_data",
        "_directory",
        "_ends_in_cr",
        "_file",
        "_limit",
        "is_paired",
        "linefeeds",
        "newlines",
        "size",
    )

    def __init__(self, temporary_dir: str, memory_limit: int = MEMORY_LIMIT, *, is_paired: bool = False) -> None:
        self.is_paired = is_paired
        self.size = 0
        self.newlines = 0
        self.linefeeds = 0
        self._directory = temporary_dir
        self._limit = memory_limit
        self._buffer = bytearray()
        self._data = b""
        self._file: IO[bytes] | None = None
        self._ends_in_cr = False

    @classmethod
    def of(cls, data: bytes) -> "Content":
        """Finished content that is in memory already."""
        content = cls("")
        content._data = data
        content._count(data)
        return content

    @property
    def in_memory(self) -> bool:
        return self._file is None

    def write(self, chunk: bytes) -> None:
        """Adds a chunk. Raises OSError when the temporary file can't take it."""
        self._buffer += chunk
        if len(self._buffer) > self._limit:
            self._spill()

    def finish(self) -> None:
        """No more chunks will come."""
        if self._file is not None:
            self._spill()
            self._file.flush()
        elif self._buffer:
            self._data = bytes(self._buffer)
            self._buffer = bytearray()
            self._count(self._data)

    def head(self, limit: int) -> bytes:
        """The first octets, at most ``limit``."""
        return self._data[:limit] if self._file is None else os.pread(self._file.fileno(), limit, 0)

    def data(self) -> bytes:
        """All of it; only where ``in_memory``."""
        if self._file is not None:
            raise ValueError("this content is on disk; read its chunks")
        return self._data

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` octets from ``offset`` on; none past the end."""
        return (
            self._data[offset : offset + size] if self._file is None else os.pread(self._file.fileno(), size, offset)
        )

    def chunks(self, size: int = 262_144, *, lf: bool = False) -> Iterator[bytes]:
        """All of it in turn, each chunk about ``size`` octets; with LF for every CRLF if ``lf``."""
        if not lf:
            yield from self._raw_chunks(size)
            return
        carried = b""
        for chunk in self._raw_chunks(size):
            whole = carried + chunk
            # A CR at the border may be the first half of a CRLF.
            carried = b"\r" if whole.endswith(b"\r") else b""
            yield (whole[:-1] if carried else whole).replace(b"\r\n", b"\n")
        if carried:
            yield carried

    def close(self) -> None:
        """Gives memory and disk space back."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # on a full disk it can't write what it held back; closed it is
                self._file.close()
        self._buffer = bytearray()
        self._data = b""

    def _raw_chunks(self, size: int) -> Iterator[bytes]:
        if self._file is None:
            for start in range(0, len(self._data), size):
                yield self._data[start : start + size]
            return
        position = 0
        while chunk := os.pread(self._file.fileno(), size, position):
            position += len(chunk)
            yield chunk

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 (closed in close())
        self._count(self._buffer)
        self._file.write(self._buffer)
        self._buffer = bytearray()

    def _count(self, block: bytes | bytearray) -> None:
        if not block:
            return
        self.size += len(block)
        if self.is_paired:  # one octet is counted several times faster than two
            self.newlines += block.count(b"\n")
            self.linefeeds = self.newlines
            return
        self.newlines += block.count(b"\r\n")
        self.linefeeds += block.count(b"\n")
        if self._ends_in_cr and block[0] == 0x0A:
            self.newlines += 1
        self._ends_in_cr = block[-1] == 0x0D
