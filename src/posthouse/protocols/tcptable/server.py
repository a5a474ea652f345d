"""The server of the protocol of tcp_table(5): ``get KEY`` there, a number and a text back, a line each.

A request doesn't name a map: a connection is about one, by the address it came to.

Invariants:
  1. Whatever the client sends, there is no exception: a line that is too long closes the connection, and ``error``
     says why.
  2. Questions are answered in their order; what is pipelined waits for the answer before it.
"""

import re

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, LineBuffer, LineTooLongError, Pause
from posthouse.protocols.socketmap.server import Lookup

MAX_LINE = 4096
"""Octets with the line's end: the longest reply that Postfix reads."""
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_TO_ENCODE = re.compile(rb"[^!-$&-~]")


class TcpTableEngine:
    """One connection about one map. ``closed``: send what is left and close; ``error``: why, if that is the client's
    fault."""

    def __init__(self, map: str) -> None:  # noqa: A002 - Postfix's word
        self.closed = False
        self.error = ""
        self._map = map
        self._lines = LineBuffer(MAX_LINE)
        self._eof = False
        self._awaiting = False
        self._output: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none at all is the end of them."""
        if data:
            self._lines.feed(data)
        else:
            self._eof = True

    def next_event(self) -> Lookup | Pause:
        """The next question."""
        if self._awaiting:
            return NEED_REPLY
        while not self.closed:
            try:
                line = self._lines.line()
            except LineTooLongError:
                self.closed, self.error = True, f"a line is longer than {MAX_LINE} octets"
                break
            if line is None:
                self.closed = self._eof
                break
            verb, _, key = line.partition(b" ")
            if verb.lower() != b"get":
                self._write(400, b"only get is understood")
                continue
            self._awaiting = True
            octets = _ENCODED.sub(lambda match: bytes([int(match[1], 16)]), key.strip())
            return Lookup(self._map, octets.decode("utf-8", "surrogateescape"))
        return NEED_DATA

    def found(self, value: str) -> None:
        """The map has ``value``. What Postfix would not read is an error instead."""
        octets = value.encode("utf-8", "surrogateescape")
        encoded = _TO_ENCODE.sub(lambda match: b"%%%02X" % match[0][0], octets)
        fits = len(encoded) <= MAX_LINE - 5
        self._answer(200 if fits else 400, encoded if fits else b"the value is too long")

    def not_found(self) -> None:
        """It has nothing."""
        self._answer(500, b"not found")

    def temporary(self, reason: str) -> None:
        """Nobody can tell now."""
        self._answer(400, _TO_ENCODE.sub(b" ", reason.encode())[:1000])

    def permanent(self, reason: str) -> None:
        """Nobody will ever tell; this protocol knows only to ask again."""
        self.temporary(reason)

    def data_to_send(self) -> bytes:
        """What is to be sent; it is the driver's from now on."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def _answer(self, code: int, text: bytes) -> None:
        if not self._awaiting:
            raise RuntimeError("nothing was asked")
        self._awaiting = False
        self._write(code, text)

    def _write(self, code: int, text: bytes) -> None:
        self._output.append(b"%d %s\n" % (code, text))
