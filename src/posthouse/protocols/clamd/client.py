"""Having clamd scan a message, without I/O: ``INSTREAM`` of clamd(8), one message a connection.

Out go the command, chunks that each begin with their length in four octets, and an empty one; back comes one line
that ends in NUL: ``stream: OK``, ``stream: NAME FOUND``, or a text that ends in ``ERROR``.

Invariants:
  1. An answer is at most ``MAX_ANSWER`` octets; what doesn't belong to one is ``Broken``, never ``Clean``.
  2. The answer may come before the message has been sent in full: clamd does so when that is too large for it.
"""

import re
import struct
from dataclasses import dataclass

from posthouse.protocols.engine import NEED_DATA, Pause

MAX_ANSWER = 4096
MAX_CHUNK = 2**31 - 1
_FOUND = re.compile(r"stream: (.+) FOUND")


@dataclass(frozen=True, slots=True)
class Clean:
    """Nothing was found."""


@dataclass(frozen=True, slots=True)
class Found:
    """``name`` of what was found."""

    name: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The message is larger than clamd's ``StreamMaxLength``: it has not been scanned."""


@dataclass(frozen=True, slots=True)
class Broken:
    """There is no answer; ``reason`` is for the log."""

    reason: str


Event = Clean | Found | TooLarge | Broken


class ClamdClientEngine:
    """One connection, one message: ``begin``, ``chunk`` …, ``end``."""

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._answer = b""
        self._event: Event | None = None
        self._ended = False

    def begin(self) -> None:
        """A message is to be scanned."""
        self._out.append(b"zINSTREAM\0")

    def chunk(self, data: bytes) -> None:
        """The next octets of the message; none is no chunk."""
        for start in range(0, len(data), MAX_CHUNK):
            piece = data[start : start + MAX_CHUNK]
            self._out += [struct.pack("!I", len(piece)), piece]

    def end(self) -> None:
        """That was all of it."""
        self._out.append(b"\0\0\0\0")

    def data_to_send(self) -> bytes:
        """What is to be written now; it is handed out once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> None:
        """Bytes from clamd; ``b""`` when it has closed its side."""
        if data:
            self._answer += data[: MAX_ANSWER + 1 - len(self._answer)]
        else:
            self._ended = True

    def next_event(self) -> Event | Pause:
        """The answer, or why there is none."""
        if self._event is None:
            line, end, _ = self._answer.partition(b"\0")
            if end and len(line) <= MAX_ANSWER:
                self._event = _meaning(line.decode("utf-8", "replace").strip())
            elif len(self._answer) > MAX_ANSWER:
                self._event = Broken("its answer is too long")
            elif self._ended:
                self._event = Broken("it closed the connection without an answer")
        return self._event or NEED_DATA


def _meaning(line: str) -> Event:
    if line == "stream: OK":
        return Clean()
    if found := _FOUND.fullmatch(line):
        return Found(found[1])
    if line.startswith("INSTREAM size limit exceeded"):
        return TooLarge()
    return Broken(f"it said {line[:200]!r}")
