"""The IMAP server engine: bytes in, commands out (RFC 3501; LITERAL+ RFC 7888; IDLE RFC 2177).

``next_event()`` returns one command at a time and NEED_REPLY until it is completed; what was pipelined behind
it waits. The engine itself answers what can't be understood, is too long, or is not allowed in its state.

Invariants:
  1. Memory is bounded: a line by ``max_line_bytes``, a command with its literals by ``max_command_bytes``, and
     the literals of APPEND pass through in chunks.
  2. A literal that is too large gets no continuation; one that comes unasked is swallowed, up to
     ``max_swallow_bytes``, beyond which the connection ends.
  3. The bytes of a literal are never read as a command, whatever became of the command it belongs to.
"""

import re
from collections.abc import Callable
from typing import Final

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, LineBuffer, LineTooLongError, Pause
from posthouse.protocols.imap.appending import NAMES as APPENDING
from posthouse.protocols.imap.appending import AppendReader
from posthouse.protocols.imap.cursor import UID_REQUIRED, UIDONLY, BadCommandError, Cursor, syntax_error
from posthouse.protocols.imap.events import (
    AuthCancelled,
    AuthResponse,
    CommandAborted,
    CommandEnd,
    Event,
    IdleDone,
    LiteralChunk,
)
from posthouse.protocols.imap.parser import PARSERS, parse_base64, parse_name, parse_tag
from posthouse.protocols.imap.render import Completion, bad, no
from posthouse.protocols.imap.states import ALLOWED, BY_NUMBER, KNOWN, Limits, Mode, State
from posthouse.protocols.sasl.credentials import encode_base64

_literal_mark = re.compile(rb"\{(\d+)(\+?)\}\Z").search
_append = re.compile(rb"[^ ]+ (?:APPEND|REPLACE [^ ]+|UID REPLACE [^ ]+) ", re.IGNORECASE).match
_leading_tag = re.compile(rb'[^(){ %*"\\+\x00-\x1f\x7f-\xff]+(?= )').match
_HUGE: Final = 1 << 63
_MARK_BYTES: Final = 64


class ImapServerEngine:
    """One connection. ``state`` is set by the driver, as commands succeed."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.state = State.NOT_AUTHENTICATED
        self.enabled: set[bytes] = set()
        """What ENABLE has switched on; the driver's to fill."""
        self.closed = False
        self._limits = limits or Limits()
        self._input = LineBuffer(self._limits.max_line_bytes)
        self._output: list[bytes] = []
        self._mode = Mode.COMMAND
        self._waiting = self._eof = False
        self._tag = b"*"
        self._parts: list[bytes] = []
        self._length = 0
        self._left = 0
        self._is_synchronising = False
        self._is_announced = False
        self._reader = AppendReader(b"", b"")
        self._refusal = bad("")
        self._errors = 0
        self._steps: dict[Mode, Callable[[], Event | Pause | None]] = {
            Mode.COMMAND: self._read_command,
            Mode.LITERAL: self._read_literal,
            Mode.APPEND: self._read_append,
            Mode.APPEND_END: self._read_append_end,
            Mode.SWALLOW: self._swallow,
            Mode.REST_OF_LINE: self._read_rest_of_line,
            Mode.SASL: self._read_sasl,
            Mode.IDLE: self._read_done,
        }

    # The driver's side.

    def receive(self, data: bytes) -> None:
        """Bytes from the client; ``b""`` at the end of the stream."""
        if data:
            self._input.feed(data)
        else:
            self._eof = True

    def next_event(self) -> Event | Pause:
        """The next event; NEED_REPLY while the one before wants its answer, NEED_DATA when there is none."""
        while not (self._waiting or self.closed):
            event = self._steps[self._mode]()
            if event is NEED_DATA and self._eof:
                self.closed = True
            if event is not None:
                return event
        return NEED_REPLY if self._waiting else NEED_DATA

    def data_to_send(self) -> bytes:
        """What is to be written now."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def send(self, data: bytes) -> None:
        """Complete response lines, CRLF included."""
        self._output.append(data)

    def untagged(self, line: bytes) -> None:
        """``* line``."""
        self._output.append(b"* %b\r\n" % line)

    def complete(self, completion: Completion) -> None:
        """The tagged response to the command, which ends it.

        Where APPEND waits for leave to send its literal, this refuses it.
        """
        self._waiting = False
        if self._mode is Mode.APPEND:
            self._refuse(completion)
        else:
            self._mode = Mode.COMMAND
            self._send_completion(completion)

    def accept_literal(self) -> None:
        """APPEND may send its messages."""
        self._waiting = False
        if self._is_announced and self._is_synchronising:
            self._output.append(b"+ OK\r\n")

    def accept_idle(self) -> None:
        """The client idles from now on; IdleDone ends that."""
        self._waiting = False
        self._mode = Mode.IDLE
        self._output.append(b"+ idling\r\n")

    def auth_challenge(self, data: bytes) -> None:
        """Send a SASL challenge; AuthResponse or AuthCancelled follows."""
        self._waiting = False
        self._mode = Mode.SASL
        self._output.append(b"+ %b\r\n" % encode_base64(data))

    def start_layer(self) -> None:
        """TLS or compression has begun: what came before it is thrown away (RFC 3501 §6.2.1, RFC 4978 §3)."""
        self._input.clear()
        self._mode = Mode.COMMAND

    def bye(self, text: str, code: str = "") -> None:
        """Say BYE and read no further commands; what is open still gets its completion."""
        prefix = f"[{code}] " if code else ""
        self.untagged(f"BYE {prefix}{text}".encode("ascii", "replace"))
        self.state = State.LOGOUT
        self.closed = True

    # Commands and their literals.

    def _read_command(self) -> Event | Pause | None:
        try:
            line = self._input.line()
        except LineTooLongError:
            self._note_tag(self._parts[0] if self._parts else self._input.take(_MARK_BYTES))
            self._refuse_line(bad("Line too long", "TOOBIG"))
            return None
        if line is None:
            return NEED_DATA
        self._length += len(line)
        mark = _literal_mark(line)
        if mark is not None:
            return self._meet_literal(line, mark)
        self._parts.append(line.rstrip(b" "))  # some clients leave spaces there
        data = b"".join(self._parts)
        self._clear_command()
        return self._parse(data)

    def _meet_literal(self, line: bytes, mark: re.Match[bytes]) -> Event | None:
        self._announce(mark)
        before = b"".join([*self._parts, line[: mark.start()]])
        if (append := _append(before)) and append.end() < len(before):
            self._clear_command()
            return self._meet_append(before)
        self._note_tag(before)
        # Strangers have no business with long literals.
        share = 1 if self.state is not State.NOT_AUTHENTICATED else 16
        if self._length + self._left > self._limits.max_command_bytes // share:
            self._refuse(bad("Literal too large", "TOOBIG"))
            return None
        self._length += self._left
        self._parts += (line, b"\r\n")
        self._mode = Mode.LITERAL
        if self._is_synchronising:
            self._output.append(b"+ OK\r\n")
        return None

    def _announce(self, mark: re.Match[bytes] | None) -> int | None:
        """A line has ended, with a literal's mark or without: what may have to be refused. The literal's size."""
        self._left, self._is_announced = 0, mark is not None
        self._is_synchronising = mark is None or not mark.group(2)
        if mark is None:
            return None
        self._left = int(mark.group(1)) if len(mark.group(1)) < 19 else _HUGE
        return self._left

    def _read_literal(self) -> Pause | None:
        data = self._input.take(self._left)
        self._parts.append(data)
        self._left -= len(data)
        if self._left:
            return NEED_DATA
        self._mode = Mode.COMMAND
        return None

    def _parse(self, data: bytes) -> Event | None:
        cursor = Cursor(data, enabled=self.enabled)
        self._tag = b"*"
        try:
            self._tag = parse_tag(cursor)
            name = self._allowed_name(cursor)
            if name in APPENDING:
                self._announce(None)
                return self._meet_append(data)
            command = PARSERS[name](self._tag, cursor)
            cursor.finish()
        except BadCommandError as error:
            self._send_completion(error.completion)
            return None
        self._waiting = True
        return command

    def _allowed_name(self, cursor: Cursor) -> bytes:
        name = parse_name(cursor)
        if name not in KNOWN:
            raise syntax_error("Unknown command")
        if name not in ALLOWED[self.state]:
            raise syntax_error("Command is not allowed in this state")
        if name in BY_NUMBER and UIDONLY in self.enabled:
            raise BadCommandError(UID_REQUIRED)
        return name

    # APPEND.

    def _meet_append(self, before: bytes) -> Event | None:
        cursor = Cursor(before, enabled=self.enabled)
        self._tag = b"*"
        try:
            self._tag = parse_tag(cursor)
            self._reader = AppendReader(self._tag, self._allowed_name(cursor))
            self._read_on(cursor)
        except BadCommandError as error:
            self._refuse(error.completion)
            return None
        self._waiting = True
        return self._reader.events.popleft()

    def _read_on(self, cursor: Cursor) -> None:
        self._reader.read(cursor, self._left if self._is_announced else None)
        if self._left > self._limits.max_append_bytes:
            # RFC 7889 §4: TOOBIG.
            raise BadCommandError(no(f"Messages may have {self._limits.max_append_bytes} octets", "TOOBIG"))
        self._mode = Mode.APPEND

    def _read_append(self) -> Event | Pause | None:
        if self._reader.events:
            event = self._reader.events.popleft()
            if isinstance(event, CommandEnd):
                self._mode = Mode.COMMAND
                self._waiting = True
            return event
        if not self._left:
            self._mode = Mode.APPEND_END
            return None
        data = self._input.take(self._left)
        if not data:
            return NEED_DATA
        self._left -= len(data)
        return LiteralChunk(data)

    def _read_append_end(self) -> Event | Pause | None:
        try:
            line = self._input.line()
        except LineTooLongError:
            self._refuse_line(bad("Line too long", "TOOBIG"))
            return CommandAborted()
        if line is None:
            return NEED_DATA
        mark = _literal_mark(line)
        self._announce(mark)
        try:
            self._read_on(Cursor(line[: mark.start()] if mark else line.rstrip(b" "), enabled=self.enabled))
        except BadCommandError as error:
            self._refuse(error.completion)
            return CommandAborted()
        if mark is not None:
            self.accept_literal()
        return None

    # What has been refused.

    def _refuse(self, completion: Completion) -> None:
        """Refuse the command whose literal of ``_left`` octets has been announced and not read, or that has none."""
        self._clear_command()
        if self._is_synchronising:
            # No continuation, no literal: the next line is a new command (RFC 3501 §7.5).
            self._mode = Mode.COMMAND
            self._left = 0
            self._send_completion(completion)
        elif self._left > self._limits.max_swallow_bytes:
            self._send_completion(completion)
            self.bye("Literal too large", "TOOBIG")
        else:
            self._refusal = completion
            self._mode = Mode.SWALLOW

    def _refuse_line(self, completion: Completion) -> None:
        """Refuse the command in the middle of a line."""
        self._clear_command()
        self._refusal = completion
        self._mode = Mode.REST_OF_LINE

    def _swallow(self) -> Pause | None:
        self._left -= len(self._input.take(self._left))
        if self._left:
            return NEED_DATA
        self._mode = Mode.REST_OF_LINE
        return None

    def _read_rest_of_line(self) -> Pause | None:
        try:
            line = self._input.line()
        except LineTooLongError:
            # Only its end matters: it may announce a literal. What is behind its end is not this command's.
            self._input.take(self._input.limit - _MARK_BYTES)
            return None
        if line is None:
            return NEED_DATA
        self._skip_after(line, self._refusal)
        return None

    def _skip_after(self, line: bytes, completion: Completion) -> None:
        """A line of a refused command has ended: the answer goes out, unless a literal follows unasked."""
        mark = _literal_mark(line)
        if mark is not None and mark.group(2):
            self._announce(mark)
            self._refuse(completion)
        else:
            self._mode = Mode.COMMAND
            self._send_completion(completion)

    # SASL and IDLE.

    def _read_sasl(self) -> Event | Pause:
        line = self._short_line()
        if line is None:
            return NEED_DATA
        self._waiting = True
        if line == b"*":
            return AuthCancelled()
        try:
            return AuthResponse(parse_base64(line))
        except BadCommandError:
            return AuthCancelled()

    def _read_done(self) -> Event | Pause:
        line = self._short_line()
        if line is None:
            return NEED_DATA
        self._waiting = True
        return IdleDone(line.upper() == b"DONE")

    def _short_line(self) -> bytes | None:
        """A line where no literal is expected, None while there is none; one too long ends the connection."""
        try:
            return self._input.line()
        except LineTooLongError:
            self.bye("Line too long", "TOOBIG")
            return None

    # Answers.

    def _send_completion(self, completion: Completion) -> None:
        self._output.append(b"%b %b\r\n" % (self._tag, completion.to_bytes()))
        self._errors = self._errors + 1 if completion.status == "BAD" else 0
        if self._errors >= self._limits.max_errors and self.state is not State.LOGOUT:
            self.bye("Too many bad commands")

    def _note_tag(self, data: bytes) -> None:
        tag = _leading_tag(data)
        self._tag = tag.group() if tag else b"*"

    def _clear_command(self) -> None:
        self._parts.clear()
        self._length = 0
