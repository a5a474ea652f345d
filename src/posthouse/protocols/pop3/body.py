"""Messages as they travel: dot-stuffed, in lines that end in CRLF (RFC 1939 §3); chunk by chunk, not by line."""

import re

_BARE_LF = re.compile(rb"(?<!\r)\n")


class DotStuffer:
    """Stuffs one message. A bare LF becomes CRLF: many clients take it for a line's end, and a dot after it then
    for the message's end, or for one to be taken away."""

    def __init__(self) -> None:
        self._before = b"\r\n"  # what the last octet was; LF with its CR

    def feed(self, chunk: bytes) -> bytes:
        if not chunk:
            return b""
        before = self._before
        data = before + chunk
        if data.count(b"\n") != data.count(b"\r\n"):
            data = _BARE_LF.sub(b"\r\n", data)
        self._before = b"\r\n" if data.endswith(b"\n") else data[-1:]
        return data.replace(b"\n.", b"\n..")[len(before) :]

    def end(self) -> bytes:
        """The last line's end, where it lacks, and the dot."""
        if self._before == b"\r\n":
            return b".\r\n"
        return b"\n.\r\n" if self._before == b"\r" else b"\r\n.\r\n"


class Top:
    """Cuts a message in CRLF form after its header section and ``lines`` lines of its body. RFC 1939 §7."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._before: bytes | None = b"\r\n"  # the end of what was seen of the header section; None after it
        self.is_complete = False

    def cut(self, chunk: bytes) -> bytes:
        """As much of the chunk as belongs to it."""
        start = 0
        if self._before is not None:
            data = self._before + chunk
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._before = data[-3:]
                return chunk
            start = end + 4 - len(self._before)
            self._before = None
        count = chunk.count(b"\n", start)
        if count < self._lines:
            self._lines -= count
            return chunk
        for _ in range(self._lines):
            start = chunk.index(b"\n", start) + 1
        self.is_complete = True
        return chunk[:start]
