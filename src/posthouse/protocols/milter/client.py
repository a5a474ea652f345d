"""The mail server's side of the milter protocol, without I/O.

Each method tells the milter what has happened; ``next_event()`` is what it says to that, up to an ``Answer`` or a
``ReplyWith``. What it does not want to hear, or does not answer, is answered ``CONTINUE`` here at once.

Invariants:
  1. How the input is cut changes nothing.
  2. Memory is bounded by one packet of ``MAX_PACKET`` and what ``receive()`` gets in one go.
  3. A milter changes only what it has said it would, at the end of the message; whoever breaks that, speaks unasked
     or sends what can't be read is ``Broken``, and stays so.
  4. Nothing that a client sent can end a packet, or a string in it.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar

from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.milter import answers
from posthouse.protocols.milter.answers import Malformed
from posthouse.protocols.milter.codes import (
    ALL_ACTIONS,
    ALL_STEPS,
    MACROS,
    MAX_CHUNK,
    OLDEST_VERSION,
    TELLING,
    VERSION,
    Actions,
    Stage,
    Steps,
)
from posthouse.protocols.milter.events import Answer, Broken, Event, Negotiated, ReplyWith

MAX_PACKET = 1_048_576
"""The largest packet that a milter may send, in octets."""


class MilterClientEngine:
    """One connection to one milter; it begins with the negotiation, whose event is ``Negotiated``."""

    _IS_OVER: ClassVar = {Answer.ACCEPT, Answer.DISCARD}

    def __init__(self) -> None:
        self.actions = Actions(0)
        self.steps = Steps(0)
        self.version = VERSION
        self._macros = dict(MACROS)
        self._stage = Stage.NEGOTIATION
        self._asked: Stage | None = Stage.NEGOTIATION
        self._answer: Event | None = None
        self._broken: Broken | None = None
        self._is_in_message = False
        self._buffer = bytearray()
        self._has_ended = False
        self._out: list[bytes] = [_packet(b"O", struct.pack("!III", VERSION, ALL_ACTIONS, ALL_STEPS))]

    # What happens.

    def connect(self, name: str, address: str, port: int, macros: Mapping[str, str]) -> None:
        """A client: its name, its IP address (or the path of a Unix socket, or nothing known: empty)."""
        family = b"U" if not address else b"L" if address.startswith("/") else b"6" if ":" in address else b"4"
        data = _string(name) + family
        if address:
            shown = f"IPv6:{address}" if family == b"6" else address
            data += struct.pack("!H", port) + _string(shown)
        self._tell(Stage.CONNECT, data, macros)

    def helo(self, name: str, macros: Mapping[str, str]) -> None:
        """HELO or EHLO; may come again."""
        self._tell(Stage.HELO, _string(name), macros)

    def mail(self, path: str, arguments: Sequence[str], macros: Mapping[str, str]) -> None:
        """MAIL: ``path`` without brackets; ``arguments`` such as ``SIZE=1000``. A message begins."""
        self._tell(Stage.MAIL, b"".join([_string(f"<{path}>"), *map(_string, arguments)]), macros)
        self._is_in_message = True

    def rcpt(self, path: str, arguments: Sequence[str], macros: Mapping[str, str]) -> None:
        """RCPT, in the same way."""
        self._tell(Stage.RCPT, b"".join([_string(f"<{path}>"), *map(_string, arguments)]), macros)

    def data(self, macros: Mapping[str, str]) -> None:
        """DATA: the message is about to come."""
        self._tell(Stage.DATA, b"", macros)

    def header(self, name: bytes, value: bytes) -> None:
        """A header field; ``value`` is what follows the colon, its folds CRLF or LF."""
        if not self.steps & Steps.LEADING_SPACE:
            value = value.removeprefix(b" ")
        self._tell(Stage.HEADER, _octets(name) + _octets(value.replace(b"\r\n", b"\n")), {})

    def end_of_headers(self, macros: Mapping[str, str]) -> None:
        """The header section is over."""
        self._tell(Stage.END_OF_HEADERS, b"", macros)

    def body(self, chunk: bytes) -> None:
        """The next octets of the body, at most ``MAX_CHUNK``."""
        if len(chunk) > MAX_CHUNK:
            raise ValueError("a chunk of the body is too large")
        self._tell(Stage.BODY, chunk, {})

    def end(self, macros: Mapping[str, str]) -> None:
        """The message is complete: now the milter may change it."""
        self._tell(Stage.END, b"", macros)

    def unknown(self, line: str) -> None:
        """A command that this server does not know."""
        self._tell(Stage.UNKNOWN, _string(line), {})

    def abort(self) -> None:
        """The message that was begun is void; the session goes on. Nothing where there is none."""
        self._check_is_free()
        if self._stage not in (Stage.NEGOTIATION, Stage.CONNECT, Stage.HELO):
            self._stage = Stage.END
        if self._is_in_message:
            self._out.append(_packet(b"A"))
            self._is_in_message = False

    def quit(self) -> None:
        """The session is over: send what is to be sent, then close."""
        self._out.append(_packet(b"Q"))

    # The wire.

    def receive(self, data: bytes) -> None:
        """Bytes from the milter; ``b""`` when it has closed its side."""
        if data:
            self._buffer += data
        else:
            self._has_ended = True

    def data_to_send(self) -> bytes:
        """What is to be written now; it is handed out once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def next_event(self) -> Event | Pause:
        """What the milter says, or why there is nothing."""
        if self._broken is not None:
            return self._broken
        if self._answer is not None:
            answer, self._answer = self._answer, None
            return answer
        try:
            packet = self._take()
            if packet is None:
                return NEED_DATA
            return self._read(packet)
        except Malformed as error:
            self._broken = Broken(str(error))
            return self._broken

    @property
    def waits(self) -> bool:
        """Whether the milter owes an answer."""
        return self._asked is not None

    @property
    def is_free(self) -> bool:
        """Whether it may be told something: everything before has been answered."""
        return self._asked is None and self._answer is None

    # Within.

    def _tell(self, stage: Stage, data: bytes, macros: Mapping[str, str]) -> None:
        self._check_is_free()
        telling = TELLING[stage]
        if self._stage not in telling.after:
            raise RuntimeError(f"{stage.value} does not follow {self._stage.value}")
        if stage is not Stage.UNKNOWN:
            self._stage = stage
        # What it asked for it gets even where it does not want to hear of the stage itself, as Sendmail has it.
        if telling.macros is not None:
            self._tell_macros(telling.letter, telling.macros, macros)
        if self.version < telling.since or self.steps & telling.unwanted:
            self._answer = Answer.CONTINUE
            return
        self._out.append(_packet(telling.letter, data))
        if self.steps & telling.silent:
            self._answer = Answer.CONTINUE
        else:
            self._asked = stage

    def _tell_macros(self, letter: bytes, number: int, macros: Mapping[str, str]) -> None:
        known = [name for name in self._macros.get(number, ()) if macros.get(name)]
        if known:
            self._out.append(
                _packet(b"D", letter + b"".join([_string(name) + _string(macros[name]) for name in known]))
            )

    def _check_is_free(self) -> None:
        if not self.is_free:
            raise RuntimeError("the milter has not answered yet")

    def _take(self) -> bytes | None:
        """The next packet without its length; None while it is incomplete."""
        buffer = self._buffer
        if len(buffer) >= 4:
            size: int = struct.unpack_from("!I", buffer)[0]
            if not 0 < size <= MAX_PACKET:
                raise Malformed(f"a packet of {size} octets")
            if len(buffer) >= 4 + size:
                packet = bytes(buffer[4 : 4 + size])
                del buffer[: 4 + size]
                return packet
        if self._has_ended:
            raise Malformed("it closed the connection")
        return None

    def _read(self, packet: bytes) -> Event:
        letter, data = packet[:1], packet[1:]
        asked = self._asked
        if asked is None:
            raise Malformed(f"it said {letter!r} without being asked")
        if asked is Stage.NEGOTIATION:
            if letter != b"O":
                raise Malformed(f"it said {letter!r} to the negotiation")
            return self._negotiate(data)
        event = answers.read(letter, data, asked, self.actions, self.steps)
        if isinstance(event, Answer | ReplyWith):
            self._asked = None
            if asked is Stage.END or (event in self._IS_OVER and asked is not Stage.UNKNOWN):
                self._is_in_message = False
        return event

    def _negotiate(self, data: bytes) -> Negotiated:
        version, actions, steps, macros = answers.read_negotiation(data)
        if not OLDEST_VERSION <= version <= VERSION:
            raise Malformed(f"it speaks version {version} of the protocol")
        if actions & ~ALL_ACTIONS or steps & ~ALL_STEPS:
            raise Malformed(f"it asks for what was not offered (actions {actions:#x}, steps {steps:#x})")
        self.version, self.actions, self.steps = version, Actions(actions), Steps(steps)
        self._macros |= macros
        self._asked = None
        return Negotiated(version, self.actions, self.steps, macros)


def _packet(letter: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + letter + data


def _string(text: str) -> bytes:
    return _octets(text.encode("utf-8", "surrogateescape"))


def _octets(text: bytes) -> bytes:
    return text.replace(b"\0", b"") + b"\0"
