"""The server's side of a dialogue by lines: bytes in and out, who waits for whom, and when it has been enough."""

from binascii import b2a_base64
from collections import deque

from posthouse.base.errors import Reply
from posthouse.protocols.engine import LineBuffer
from posthouse.protocols.smtp import replies
from posthouse.protocols.smtp.events import Event, Quit
from posthouse.protocols.smtp.states import Asked, ServerOptions

# Lines of an authentication exchange: RFC 4954 §4 asks for 12,288 octets, tokens of 16 KiB need more. Other commands
# end at ServerOptions.max_line.
_MAX_AUTH_LINE = 24_576


class Dialogue:
    """What the engine knows before it knows any command."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.closed = False
        self._buffer = LineBuffer(_MAX_AUTH_LINE)
        self._end_of_input = False
        self._out: list[bytes] = []
        self._objections: list[Reply] = []
        self._events: deque[Event] = deque()
        self._asked: Asked | None = Asked.GREETING
        self._errors = 0
        self._idle_commands = 0
        self._goodbye = Quit("")

    @property
    def errors(self) -> int:
        """The client's errors since a message last got through."""
        return self._errors

    def receive(self, data: bytes) -> None:
        """Bytes from the client; ``b""`` when it has closed its side."""
        if not data:
            self._end_of_input = True
        elif not self.closed:
            self._buffer.feed(data)

    def data_to_send(self) -> bytes:
        """What is to be written now; it is handed out once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def objections(self) -> list[Reply]:
        """What was refused here, without asking anybody, since this was called last."""
        objections, self._objections = self._objections, []
        return objections

    def close(self, reply: Reply) -> None:
        """End the session from our side, whatever it is at: time-out, shutdown. ``reply`` is a 421."""
        if not self.closed:
            self._end(str(reply), reply)

    def _answer(self, asked: Asked) -> None:
        """An answer to ``asked`` comes in; anything else is the driver's mistake."""
        if self._asked is not asked:
            raise RuntimeError(f"{asked.value} does not wait for an answer")
        self._asked = None

    def _put(self, reply: Reply) -> None:
        self._out.append(replies.encode(reply))

    def _object(self, reply: Reply) -> None:
        """Refuse by ourselves."""
        self._objections.append(reply)
        self._put(reply)

    def _put_challenge(self, data: bytes) -> None:
        self._out.append(b"334 %b\r\n" % b2a_base64(data, newline=False))

    def _fail(self, reply: Reply) -> None:
        """Answer with an error of the client's."""
        self._object(reply)
        self._count_error()

    def _count_error(self) -> None:
        self._errors += 1
        if self._errors >= self.options.max_errors:
            self._end("too many errors", replies.TOO_MANY_ERRORS)

    def _count_idle_command(self) -> None:
        self._idle_commands += 1
        if self._idle_commands > self.options.max_idle_commands:
            self._count_error()

    def _forgive(self) -> None:
        """A message got through: this client does not just waste our time."""
        self._errors = self._idle_commands = 0

    def _end(self, reason: str, reply: Reply | None = None) -> None:
        """The session is over; ``reason`` is for the log."""
        if reply is not None:
            self._put(reply)
        self.closed = True
        self._asked = None
        self._buffer.clear()
        self._goodbye = Quit(reason)
