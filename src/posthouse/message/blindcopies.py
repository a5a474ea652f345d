"""Taking the fields Bcc and Resent-Bcc out of a message's header while it comes in (RFC 5322 §3.6.3).

Invariants:
  1. Every octet that is not in one of those fields comes out again, in order.
  2. What is kept back is less than a line's beginning: as long as it may still turn out to be such a field.
  3. Any cut of the same message into chunks gives the same octets.

Lines end with CRLF, as the server's engine sees to.
"""

import re
from enum import Enum, auto

_LONGEST_NAME = 998
"""A longer line's beginning is no field of ours: no line may be longer (RFC 5322 §2.1.1)."""
_BLIND = re.compile(rb"(?:resent-)?bcc[ \t]*:", re.IGNORECASE)
_MAYBE_BLIND = (b"resent-bcc", b"bcc")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_MAYBE_FIELD = re.compile(rb"[!-9;-~]*[ \t]*")


class _At(Enum):
    """What the next octets belong to."""

    START = auto()
    """The message's first line, which may be its body's."""
    LINE = auto()
    """The beginning of a line of the header."""
    KEPT = auto()
    DROPPED = auto()
    """The rest of a line that stays, or doesn't."""
    AFTER_DROPPED = auto()
    """The beginning of a line that may go on with a field that was dropped."""
    BODY = auto()


class BlindCopies:
    """One message: hand in its chunks in order, then ``finish``."""

    __slots__ = ("_at", "_beginning")

    def __init__(self) -> None:
        self._at = _At.START
        self._beginning = b""

    def feed(self, chunk: bytes) -> bytes:
        """What of it, and of what was kept back, stays."""
        if self._at is _At.BODY:
            return chunk
        data, self._beginning = self._beginning + chunk, b""
        kept: list[bytes] = []
        position = 0
        while position < len(data):
            if self._at is _At.BODY:
                kept.append(data[position:])
                break
            if self._at in (_At.KEPT, _At.DROPPED):
                end = data.find(b"\n", position) + 1 or len(data)
                if self._at is _At.KEPT:
                    kept.append(data[position:end])
                if data[end - 1] == 0x0A:
                    self._at = _At.LINE if self._at is _At.KEPT else _At.AFTER_DROPPED
                position = end
                continue
            following = self._begin(data, position)
            if following is None:
                self._beginning = data[position:]
                break
            self._at = following
        return b"".join(kept)

    def finish(self) -> bytes:
        """What was kept back: the message ends in a line's beginning."""
        beginning, self._beginning = self._beginning, b""
        return beginning

    def _begin(self, data: bytes, position: int) -> _At | None:
        """What begins here; None while that can't be told."""
        first = data[position]
        if first in b" \t" and self._at is _At.AFTER_DROPPED:
            return _At.DROPPED
        if first in b" \t" and self._at is _At.LINE:
            return _At.KEPT
        beginning = data[position : position + _LONGEST_NAME]
        if beginning in (b"\r", b""):
            return None
        if beginning.startswith(b"\r\n"):
            return _At.BODY
        if _BLIND.match(beginning):
            return _At.DROPPED
        if self._at is _At.START:
            return self._begin_message(beginning)
        return None if _may_be_blind(beginning) else _At.KEPT

    def _begin_message(self, beginning: bytes) -> _At | None:
        if _FIELD.match(beginning):
            return _At.KEPT
        may_be_field = _MAYBE_FIELD.fullmatch(beginning) and len(beginning) < _LONGEST_NAME
        return None if may_be_field else _At.BODY


def _may_be_blind(beginning: bytes) -> bool:
    """Whether more of the line may make it such a field."""
    text = beginning.lower()
    if len(text) >= _LONGEST_NAME:
        return False
    name = text.rstrip(b" \t")
    return name in _MAYBE_BLIND or (name == text and any(one.startswith(text) for one in _MAYBE_BLIND))
