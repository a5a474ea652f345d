"""What the engines have in common: how they say that they wait, and where received bytes wait for them.

An engine is pulled: ``receive(data)`` hands it bytes (``b""`` is the end of the stream), ``next_event()``
returns what they mean, reply methods answer, ``data_to_send()`` drains what is to be written.
"""

from enum import Enum
from typing import Final


class Pause(Enum):
    """Why ``next_event()`` has no event."""

    NEED_DATA = "need data"
    """Everything received is used up: send what is to be sent, then read."""
    NEED_REPLY = "need reply"
    """The event before has not been answered; input that was pipelined after it waits."""


NEED_DATA: Final = Pause.NEED_DATA
NEED_REPLY: Final = Pause.NEED_REPLY


class LineTooLongError(Exception):
    """More octets than the limit without the end of a line. The buffer is as it was."""


class LineBuffer:
    """Bytes received and not yet used; lines and counted octets come off its front.

    ``limit`` is the longest line in octets, its ending included, and may be changed between lines. The
    buffer never holds more than what is fed in one go and one incomplete line, if all that is complete is
    taken first.
    """

    __slots__ = ("_data", "_start", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = b""
        self._start = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, data: bytes) -> None:
        """Add bytes at the end; without a copy when nothing is left over."""
        if self._start < len(self._data):
            data = self._data[self._start :] + data
        self._data = data
        self._start = 0

    def line(self) -> bytes | None:
        """The next line without its CRLF or LF; None while it is incomplete. Raises LineTooLongError."""
        data = self._data
        start = self._start
        end = data.find(b"\n", start, start + self.limit)
        if end < 0:
            if len(data) - start >= self.limit:
                raise LineTooLongError
            return None
        self._start = end + 1
        if end > start and data[end - 1] == 13:
            end -= 1
        return data[start:end]

    def take(self, count: int) -> bytes:
        """At most ``count`` octets from the front: fewer when there are fewer."""
        start = self._start
        data = self._data[start : start + count]
        self._start = start + len(data)
        return data

    def untake(self, count: int) -> None:
        """Put the last ``count`` octets that ``take()`` gave back; nothing may have come between."""
        self._start -= count

    def clear(self) -> None:
        """Throw everything away."""
        self._data = b""
        self._start = 0
