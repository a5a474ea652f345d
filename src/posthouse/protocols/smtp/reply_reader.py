"""Replies as a server sends them, made out of bytes (RFC 5321 §4.2).

Invariant: a server can make us hold no more than ``_MAX_LINES`` lines of ``_MAX_LINE`` octets.
"""

import re

from posthouse.base.errors import Reply
from posthouse.protocols.engine import LineBuffer, LineTooLongError

_MAX_LINE = 2048  # RFC 5321 §4.5.3.1.5 has 512; real servers exceed it
_MAX_LINES = 128
_STATUS = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?= |$)")
_UNPRINTABLE = bytes(c if 32 <= c < 127 else 63 for c in range(256))


class MalformedReplyError(Exception):
    """The server does not speak SMTP."""


class ReplyReader:
    """Collects a reply's lines."""

    __slots__ = ("_buffer", "_lines")

    def __init__(self) -> None:
        self._buffer = LineBuffer(_MAX_LINE)
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self._buffer.feed(data)

    def clear(self) -> None:
        """Forget what was received."""
        self._buffer.clear()
        self._lines.clear()

    def reply(self) -> Reply | None:
        """The next complete reply, its text's lines separated by LF. Raises MalformedReplyError."""
        try:
            while (line := self._buffer.line()) is not None:
                if self._add(line):
                    return self._whole()
        except LineTooLongError:
            raise MalformedReplyError("reply line too long") from None
        return None

    def _add(self, line: bytes) -> bool:
        """Whether this was the reply's last line."""
        code = line[:3]
        if not (code.isdigit() and len(code) == 3 and b"2" <= code[:1] <= b"5") or line[3:4] not in b" -":
            raise MalformedReplyError(f"malformed reply: {line[:80]!r}")
        if self._lines and self._lines[0][:3] != code:
            raise MalformedReplyError("reply with more than one code")
        if len(self._lines) >= _MAX_LINES:
            raise MalformedReplyError("reply of too many lines")
        self._lines.append(line)
        return line[3:4] != b"-"

    def _whole(self) -> Reply:
        code = int(self._lines[0][:3])
        texts = [line[4:].translate(_UNPRINTABLE).decode("ascii") for line in self._lines]
        self._lines.clear()
        found = _STATUS.match(texts[0])
        # RFC 3463 §2: the classes agree, or this is a number that happens to stand there.
        status = found[0] if found and int(found[1]) == code // 100 else ""
        if status:
            texts = [text.removeprefix(status).removeprefix(" ") for text in texts]
        return Reply(code, status, "\n".join(texts))
