"""The server of saslauthd's protocol: one question and one answer a connection.

The question is four strings, each after its length in two octets, the higher first: login, password, service,
realm. The answer is one such string: ``OK``, or ``NO`` and a reason.

Invariants:
  1. Whatever the client sends, there is no exception: what is no question closes the connection, and ``error`` says
     why.
  2. At most ``MAX_REQUEST`` octets are kept.
"""

from dataclasses import dataclass, field

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, Pause

MAX_STRING = 4096
MAX_REQUEST = 4 * (2 + MAX_STRING)


@dataclass(frozen=True, slots=True)
class Question:
    """Is this the password? ``service`` is the program's name for what it serves, ``realm`` is often empty."""

    login: str
    password: str = field(repr=False)
    service: str
    realm: str


class SaslauthdEngine:
    """One connection. ``closed``: send what is left and close; ``error``: why, if that is the client's fault."""

    def __init__(self) -> None:
        self.closed = False
        self.error = ""
        self._data = b""
        self._awaiting = False
        self._output = b""

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none at all is the end of them."""
        if self.closed or self._awaiting:
            return  # there is nothing to be said after the question; clients that close their side still wait
        self._data += data
        if not data:
            self.closed = True
            self.error = "the question ends in the middle" if self._data else ""

    def next_event(self) -> Question | Pause:
        """The question, once it is complete."""
        if self._awaiting:
            return NEED_REPLY
        if self.closed:
            return NEED_DATA
        strings: list[str] = []
        position = 0
        while len(strings) < 4:
            start = position + 2
            length = int.from_bytes(self._data[position:start], "big")
            if start <= len(self._data) and length > MAX_STRING:
                self.closed, self.error = True, f"a string of {length} octets"
                return NEED_DATA
            position = start + length
            if position > len(self._data):
                return NEED_DATA
            # What is no UTF-8 is no account's name and no account's password.
            strings.append(self._data[start:position].decode("utf-8", "surrogateescape"))
        self._awaiting, self._data = True, b""
        return Question(*strings)

    def accept(self) -> None:
        """It is."""
        self._answer("OK")

    def refuse(self, reason: str) -> None:
        """It isn't, or nobody can tell; ``reason`` is shown to whoever asked."""
        self._answer(f"NO {reason}")

    def data_to_send(self) -> bytes:
        """What is to be sent; it is the driver's from now on."""
        data, self._output = self._output, b""
        return data

    def _answer(self, text: str) -> None:
        if not self._awaiting:
            raise RuntimeError("nothing was asked")
        answer = text.encode("utf-8", "replace")[:1000]
        self._output = len(answer).to_bytes(2, "big") + answer
        self._awaiting, self.closed = False, True
