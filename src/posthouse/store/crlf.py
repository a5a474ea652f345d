"""Message files as clients see them: with CRLF line ends.

A file whose size is that of its CRLF form is read as it is; in any other, each bare LF becomes CRLF and
everything else stays.

Invariant: no more than ``IN_MEMORY`` octets of a file are held here. Files are not mapped, since a program that
cuts a mapped file kills us.
"""

import os
import tempfile

IN_MEMORY = 4 * 1024 * 1024
_BLOCK = 1024 * 1024


def to_crlf(data: bytes) -> bytes:
    """Bare LFs as CRLF."""
    if b"\r\n" in data:
        data = data.replace(b"\r\n", b"\n")
    return data.replace(b"\n", b"\r\n")


class LargeBody:
    """A message that is read piece by piece; converted once, into an unlinked file, if need be."""

    __slots__ = ("_handle", "_window", "_window_start", "size")

    def __init__(self, handle: int, temporary_dir: str, *, convert: bool) -> None:
        """Takes ``handle`` over."""
        self._handle = handle
        if convert:
            try:
                self._handle = _converted(handle, temporary_dir)
            finally:
                os.close(handle)
        self.size = os.fstat(self._handle).st_size
        self._window, self._window_start = b"", 0

    def __getitem__(self, wanted: slice) -> bytes:
        start, end, _ = wanted.indices(self.size)
        if self._window_start <= start and end <= self._window_start + len(self._window):
            return self._window[start - self._window_start : max(start, end) - self._window_start]
        return self._read(start, end)

    def find(self, wanted: bytes, start: int) -> int:
        """As that of bytes, a window at a time."""
        while start < self.size:
            if not self._window_start <= start < self._window_start + len(self._window):
                self._window, self._window_start = (
                    self._read(start, min(start + max(_BLOCK, len(wanted)), self.size)),
                    start,
                )
            at = self._window.find(wanted, start - self._window_start)
            if at >= 0:
                return self._window_start + at
            if not self._window or (end := self._window_start + len(self._window)) >= self.size:
                return -1
            start = max(start, end - len(wanted) + 1)
            self._window = b""
        return -1

    def startswith(self, prefix: bytes | tuple[bytes, ...], start: int) -> bool:
        longest = len(prefix) if isinstance(prefix, bytes) else max(map(len, prefix), default=0)
        return start >= 0 and self[start : start + longest].startswith(prefix)

    def count(self, octet: bytes, start: int, end: int) -> int:
        return sum(self._read(at, min(at + _BLOCK, end)).count(octet) for at in range(start, end, _BLOCK))

    def _read(self, start: int, end: int) -> bytes:
        pieces: list[bytes] = []
        while start < end and (piece := os.pread(self._handle, end - start, start)):
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def __len__(self) -> int:
        return self.size

    def close(self) -> None:
        os.close(self._handle)


def load(handle: int, temporary_dir: str, *, convert: bool) -> bytes | LargeBody:
    """The whole of an open file, which is taken over."""
    size = os.fstat(handle).st_size
    if size > IN_MEMORY:
        return LargeBody(handle, temporary_dir, convert=convert)
    try:
        data = os.read(handle, size)
        while len(data) < size and (more := os.read(handle, size - len(data))):
            data += more
    finally:
        os.close(handle)
    return to_crlf(data) if convert else data


def _converted(handle: int, temporary_dir: str) -> int:
    with tempfile.TemporaryFile(dir=temporary_dir, buffering=0) as file:
        position = 0
        while block := os.pread(handle, _BLOCK, position):
            # A CRLF that straddles two blocks must not be taken for a bare LF.
            if block.endswith(b"\r") and len(block) > 1:
                block = block[:-1]
            position += len(block)
            _write_all(file.fileno(), to_crlf(block))
        return os.dup(file.fileno())


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
