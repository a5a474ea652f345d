"""Asking a policy service, without I/O: ``name=value`` lines and an empty one out, ``action=...`` back.

Invariants:
  1. No value that a client chose can end a line or a request.
  2. An answer is at most ``MAX_ANSWER`` octets; what doesn't belong to one ends the connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.protocols.engine import NEED_DATA, LineBuffer, LineTooLongError, Pause

MAX_LINE = 8192
MAX_ANSWER = 65_536
MAX_VALUE = 1024
_BREAKS = str.maketrans({"\n": "?", "\r": "?", "\0": "?"})


@dataclass(frozen=True, slots=True)
class Action:
    """What the service says: an action of access(5), as text."""

    text: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection is of no more use; ``reason`` is for the log."""

    reason: str


class PolicyClientEngine:
    """One connection: one request at a time."""

    def __init__(self) -> None:
        self._buffer = LineBuffer(MAX_LINE)
        self._out: list[bytes] = []
        self._action: str | None = None
        self._size = 0
        self._waits = False
        self._ended = False

    def ask(self, attributes: Mapping[str, str]) -> None:
        """Send a request. The one before has been answered."""
        if self._waits:
            raise RuntimeError("a request is on its way")
        lines = [f"{name}={value[:MAX_VALUE].translate(_BREAKS)}\n" for name, value in attributes.items()]
        self._out.append("".join([*lines, "\n"]).encode("utf-8", "replace"))
        self._waits, self._action, self._size = True, None, 0

    def receive(self, data: bytes) -> None:
        """Bytes from the service; ``b""`` when it has closed its side."""
        if data:
            self._buffer.feed(data)
        else:
            self._ended = True

    def data_to_send(self) -> bytes:
        """What is to be written now; it is handed out once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def next_event(self) -> Action | Broken | Pause:
        """The answer, or why there is none."""
        if not self._waits:
            return Broken("it spoke without being asked") if len(self._buffer) or self._ended else NEED_DATA
        while True:
            try:
                line = self._buffer.line()
            except LineTooLongError:
                return Broken("a line of its answer is too long")
            if line is None:
                return Broken("it closed the connection") if self._ended else NEED_DATA
            self._size += len(line) + 1
            if self._size > MAX_ANSWER:
                return Broken("its answer is too long")
            if not line:
                self._waits = False
                return Broken("its answer has no action") if self._action is None else Action(self._action)
            name, equals, value = line.partition(b"=")
            if not equals:
                return Broken("a line of its answer is no name=value")
            if name.strip() == b"action":
                self._action = value.decode("utf-8", "replace").strip()
