"""The server of the protocol of socketmap_table(5): netstrings, ``NAME KEY`` there, a word and a text back.

Invariants:
  1. Whatever the client sends, there is no exception: what is no netstring closes the connection, and ``error`` says
     why.
  2. Questions are answered in their order; what is pipelined waits for the answer before it.
"""

from dataclasses import dataclass

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, Pause

MAX_REQUEST = 10_000
MAX_REPLY = 100_000
"""Octets in a netstring; the longest reply that Postfix reads."""
_MAX_DIGITS = len(str(MAX_REQUEST))


@dataclass(frozen=True, slots=True)
class Lookup:
    """What does that map have under that key? Octets that are no UTF-8 are surrogates in ``key``."""

    map: str
    key: str


class SocketmapEngine:
    """One connection. ``closed``: send what is left and close; ``error``: why, if that is the client's fault."""

    def __init__(self) -> None:
        self.closed = False
        self.error = ""
        self._data = b""
        self._start = 0
        self._eof = False
        self._awaiting = False
        self._output: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none at all is the end of them."""
        self._data = self._data[self._start :] + data
        self._start = 0
        self._eof = self._eof or not data

    def next_event(self) -> Lookup | Pause:
        """The next question."""
        if self._awaiting:
            return NEED_REPLY
        while not self.closed and (request := self._netstring()) is not None:
            name, space, key = request.decode("utf-8", "surrogateescape").partition(" ")
            if not space:
                self._write("PERM a request is a map's name, a space and a key")
                continue
            self._awaiting = True
            return Lookup(name, key)
        self.closed = self.closed or self._eof
        return NEED_DATA

    def found(self, value: str) -> None:
        """The map has ``value``. What Postfix would not read is a permanent error instead."""
        fits = len(value.encode("utf-8", "surrogateescape")) <= MAX_REPLY - 3
        self._answer(f"OK {value}" if fits else "PERM the value is too long")

    def not_found(self) -> None:
        """It has nothing."""
        self._answer("NOTFOUND ")

    def temporary(self, reason: str) -> None:
        """Nobody can tell now."""
        self._answer(f"TEMP {reason}")

    def permanent(self, reason: str) -> None:
        """Nobody will ever tell: there is no such map."""
        self._answer(f"PERM {reason}")

    def data_to_send(self) -> bytes:
        """What is to be sent; it is the driver's from now on."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def _netstring(self) -> bytes | None:
        """The next netstring's content; None while it is incomplete, and for good where it isn't one."""
        data, start = self._data, self._start
        digits, colon, _ = data[start : start + _MAX_DIGITS + 1].partition(b":")
        if (not digits.isdigit() and (digits or colon)) or (not colon and len(digits) > _MAX_DIGITS):
            return self._break("not a netstring")
        if not colon:
            return None
        start += len(digits) + 1
        end = start + int(digits)
        if end - start > MAX_REQUEST:
            return self._break(f"a request of {end - start} octets")
        if len(data) <= end:
            return None
        if data[end : end + 1] != b",":
            return self._break("a netstring without its comma")
        self._start = end + 1
        return data[start:end]

    def _answer(self, text: str) -> None:
        if not self._awaiting:
            raise RuntimeError("nothing was asked")
        self._awaiting = False
        self._write(text)

    def _write(self, text: str) -> None:
        reply = text.encode("utf-8", "surrogateescape")
        self._output.append(b"%d:%s," % (len(reply), reply))

    def _break(self, error: str) -> None:
        self.closed, self.error = True, error
