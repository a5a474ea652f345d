"""The POP3 server's engine: RFC 1939, CAPA and response codes (RFC 2449, RFC 3206), STLS (RFC 2595), AUTH (RFC 5034),
UTF8 and LANG (RFC 6856), APOP where the driver gives a timestamp.

The driver logs the client in and hands the maildrop over; from then on the engine answers all but RETR, TOP and
QUIT itself.

Invariants:
  1. Commands are answered in their order; what is pipelined waits for the answer before it.
  2. Nothing is deleted but by QUIT after a login.
  3. At most ``OUTPUT_LIMIT`` octets and the answer to one command wait to be sent.
"""

from binascii import b2a_base64
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, LineBuffer, LineTooLongError, Pause
from posthouse.protocols.pop3.arguments import decode_base64, decode_initial, number
from posthouse.protocols.pop3.body import DotStuffer, Top
from posthouse.protocols.pop3.events import (
    Apop,
    Auth,
    AuthCancelled,
    AuthResponse,
    Event,
    OutputWaits,
    Quit,
    Retrieve,
    StartTls,
    UserPass,
)
from posthouse.protocols.pop3.maildrop import Maildrop
from posthouse.protocols.pop3.options import LANGUAGE, ServerOptions, capabilities


class State(Enum):
    """RFC 1939 §3. The UPDATE state is what the driver does between Quit and its answer."""

    AUTHORIZATION = "authorization"
    EXCHANGE = "exchange"
    """Within AUTH: the next line is the answer to a challenge."""
    TRANSACTION = "transaction"


ALLOWED = {
    State.AUTHORIZATION: {"CAPA", "QUIT", "LANG", "UTF8", "STLS", "USER", "PASS", "APOP", "AUTH"},
    State.TRANSACTION: {
        "CAPA", "QUIT", "LANG", "NOOP", "STAT", "LIST", "UIDL", "RETR", "TOP", "DELE", "RSET",
    },
}  # fmt: skip

OUTPUT_LIMIT = 64 * 1024


class Pop3ServerEngine:
    """One session. ``auth_mechanisms`` may be changed until the login; ``closed``: send what is left and close."""

    def __init__(self, options: ServerOptions) -> None:
        self.auth_mechanisms = options.auth
        self.closed = False
        self._offers_tls = options.starttls
        self._errors_left = options.max_errors
        self._lines = LineBuffer(options.max_line)
        self._eof = False
        self._state = State.AUTHORIZATION
        self._login = ""
        self._maildrop = Maildrop(0, (), ())
        self._awaiting: Event | None = None
        self._stuffer: DotStuffer | None = None
        self._top: Top | None = None
        self._output: list[bytes] = []
        self._output_size = 0
        self._has_timestamp = bool(options.timestamp)
        self._login_delay_seconds = options.login_delay_seconds
        self._is_utf8 = False
        self._ok(f"{options.hostname} POP3 server ready {options.timestamp}".rstrip())

    # The driver's side: bytes and events.

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none at all is the end of them."""
        if data:
            self._lines.feed(data)
        else:
            self._eof = True

    def next_event(self) -> Event | Pause:
        """The next thing to be decided, or why there is none."""
        while self._awaiting is None and not self.closed:
            if self._output_size > OUTPUT_LIMIT:
                return OutputWaits()
            try:
                line = self._lines.line()
            except LineTooLongError:
                self._error("Line too long")
                self.closed = True
                break
            if line is None:
                self.closed = self._eof
                break
            if event := self._response(line) if self._state is State.EXCHANGE else self._command(line):
                return event
        return NEED_DATA if self._awaiting is None else NEED_REPLY

    def data_to_send(self) -> bytes:
        """What is to be sent; it is the driver's from now on."""
        data = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        return data

    # The driver's side: answers.

    def refuse(self, text: str, code: str = "") -> None:
        """``-ERR [code] text``, in answer to any event. After Quit the session is over all the same."""
        if self._stuffer is not None:
            raise RuntimeError("the message has begun")
        self._top = None
        event = self._answered(StartTls, UserPass, Apop, Auth, AuthResponse, Retrieve, Quit)
        if isinstance(event, Quit):
            self.closed = True
        if isinstance(event, UserPass | Apop | Auth | AuthResponse):
            self._state = State.AUTHORIZATION
            self._count_error()
        self._error(text, code)

    def accept_starttls(self) -> None:
        self._answered(StartTls)
        self._ok("Begin TLS negotiation")

    def start_tls(self) -> None:
        """TLS is up: nothing that was said in clear counts (RFC 2595 §4)."""
        self._lines.clear()
        self._login = ""
        self._offers_tls = False

    def auth_challenge(self, data: bytes) -> None:
        self._answered(Auth, AuthResponse)
        self._state = State.EXCHANGE
        self._write(b"+ %s\r\n" % b2a_base64(data, newline=False))

    def accept_login(self, maildrop: Maildrop) -> None:
        """The client is logged in and this is its maildrop."""
        self._answered(UserPass, Apop, Auth, AuthResponse)
        self._maildrop = maildrop
        self._state = State.TRANSACTION
        self._ok(f"{maildrop.count} messages ({maildrop.total_bytes} octets)")

    def begin_message(self) -> None:
        """The message is there and follows."""
        if not isinstance(self._awaiting, Retrieve) or self._stuffer is not None:
            raise RuntimeError("no message was asked for")
        self._stuffer = DotStuffer()
        self._ok(f"{self._maildrop.sizes[self._awaiting.index]} octets" if self._top is None else "Top of message")

    def message(self, chunk: bytes) -> bool:
        """The message's next octets, of any number; False when no more of them are wanted."""
        if self._stuffer is None:
            raise RuntimeError("message without a beginning")
        if self._top is None:
            self._write(self._stuffer.feed(chunk))
            return True
        if not self._top.is_complete:
            self._write(self._top.cut(self._stuffer.feed(chunk)))
        return not self._top.is_complete

    def end_message(self) -> None:
        if self._stuffer is None:
            raise RuntimeError("message without a beginning")
        self._answered(Retrieve)
        is_cut = self._top is not None and self._top.is_complete
        self._write(b".\r\n" if is_cut else self._stuffer.end())
        self._stuffer = self._top = None

    def accept_quit(self) -> None:
        self._answered(Quit)
        self._ok("Bye")
        self.closed = True

    # Lines.

    def _command(self, line: bytes) -> Event | None:
        keyword, _, argument = line.decode("utf-8", "surrogateescape").partition(" ")
        keyword = keyword.upper()
        handler = self._HANDLERS.get(keyword)
        if handler is None:
            return self._bad("Unknown command")
        if keyword not in ALLOWED[self._state]:
            return self._bad("Not now")
        self._awaiting = handler(self, argument if keyword == "PASS" else argument.strip(" "))
        return self._awaiting

    def _response(self, line: bytes) -> Event | None:
        """A line within AUTH. RFC 5034 §4."""
        self._state = State.AUTHORIZATION
        try:
            if line == b"*":
                raise ValueError("Authentication cancelled")
            self._awaiting = AuthResponse(decode_base64(line))
        except ValueError as error:
            self._bad(str(error))
            return AuthCancelled()
        return self._awaiting

    # Commands: each answers itself, or returns the event whose answer is awaited.

    def _capa(self, _: str) -> None:
        """RFC 2449 §5."""
        has_stls = self._offers_tls and self._state is State.AUTHORIZATION
        lines = capabilities(
            self.auth_mechanisms, self._login_delay_seconds, has_user=self._takes_passwords, has_stls=has_stls
        )
        self._ok("Capability list follows")
        self._write("".join([f"{line}\r\n" for line in lines]).encode() + b".\r\n")

    def _stls(self, _: str) -> StartTls | None:
        if not self._offers_tls:
            return self._bad("TLS is not available or already active")
        if self._is_utf8:
            return self._bad("STLS comes before UTF8")
        return StartTls()

    def _utf8(self, _: str) -> None:
        """RFC 6856 §2.1. Messages are sent as they are, whether or not it was said."""
        self._is_utf8 = True
        self._ok("UTF-8 it is")

    def _lang(self, wanted: str) -> None:
        """RFC 6856 §3.2: all there is is English."""
        tag = LANGUAGE.partition(" ")[0]
        if not wanted:
            self._ok("Language listing follows")
            self._write(f"{LANGUAGE}\r\n.\r\n".encode())
        elif wanted.lower() in ("*", tag):
            self._ok(f"{tag} English it is")
        else:
            self._error("That language is not spoken here")

    def _user(self, login: str) -> None:
        if not self._takes_passwords:
            self._bad("Passwords are not accepted here" if self.auth_mechanisms else "Not accepted here without TLS")
        elif not login:
            self._bad("USER needs a name")
        else:
            self._login = login
            self._ok("Send the password")

    def _pass(self, password: str) -> UserPass | None:
        login, self._login = self._login, ""
        if not login or not self._takes_passwords:
            return self._bad("USER comes first")
        return UserPass(login, password)

    def _apop(self, arguments: str) -> Apop | None:
        if not self._has_timestamp:
            return self._bad("The greeting had no timestamp")
        login, _, digest = arguments.rpartition(" ")
        if not login:
            return self._bad("APOP needs a name and a digest")
        return Apop(login, digest)

    def _auth(self, arguments: str) -> Auth | None:
        mechanism, _, initial = arguments.partition(" ")
        mechanism = mechanism.upper()
        if mechanism not in self.auth_mechanisms:
            return self._bad("Unknown mechanism" if self.auth_mechanisms else "Not accepted here without TLS")
        try:
            return Auth(mechanism, decode_initial(initial.encode("utf-8", "surrogateescape")))
        except ValueError as error:
            return self._bad(str(error))

    def _stat(self, _: str) -> None:
        self._ok(f"{self._maildrop.count} {self._maildrop.total_bytes}")

    def _list(self, argument: str) -> None:
        sizes = self._maildrop.sizes
        self._listing(argument, lambda index: sizes[index])

    def _uidl(self, argument: str) -> None:
        self._listing(argument, self._maildrop.unique_id)

    def _retr(self, argument: str) -> Retrieve | None:
        index = self._index(argument)
        return None if index is None else Retrieve(index)

    def _top_of(self, arguments: str) -> Retrieve | None:
        message, _, lines = arguments.partition(" ")
        if (count := number(lines)) is None:
            return self._bad("TOP needs a message number and a number of lines")
        if (index := self._index(message)) is None:
            return None
        self._top = Top(count)
        return Retrieve(index)

    def _dele(self, argument: str) -> None:
        if (index := self._index(argument)) is not None:
            self._maildrop.delete(index)
            self._ok("Marked to be deleted")

    def _rset(self, _: str) -> None:
        self._maildrop.restore()
        self._stat("")

    def _noop(self, _: str) -> None:
        self._ok("Done")

    def _quit(self, _: str) -> Quit | None:
        if self._state is State.TRANSACTION:
            return Quit(tuple(sorted(self._maildrop.deleted)))
        self._ok("Bye")
        self.closed = True
        return None

    _HANDLERS: ClassVar[dict[str, Callable[["Pop3ServerEngine", str], Event | None]]] = {
        "CAPA": _capa,
        "STLS": _stls,
        "UTF8": _utf8,
        "LANG": _lang,
        "USER": _user,
        "PASS": _pass,
        "APOP": _apop,
        "AUTH": _auth,
        "STAT": _stat,
        "LIST": _list,
        "UIDL": _uidl,
        "RETR": _retr,
        "TOP": _top_of,
        "DELE": _dele,
        "RSET": _rset,
        "NOOP": _noop,
        "QUIT": _quit,
    }

    # What they share.

    @property
    def _takes_passwords(self) -> bool:
        return "PLAIN" in self.auth_mechanisms

    def _listing(self, argument: str, value: Callable[[int], object]) -> None:
        """LIST and UIDL, of one message or of all that are left. RFC 1939 §5, §7."""
        if argument:
            if (index := self._index(argument)) is not None:
                self._ok(f"{index + 1} {value(index)}")
            return
        lines = [f"{index + 1} {value(index)}\r\n" for index in self._maildrop.remaining()]
        self._ok(f"{len(lines)} messages")
        self._write("".join(lines).encode() + b".\r\n")

    def _index(self, argument: str) -> int | None:
        """The message of that number; otherwise the client has been told why there is none."""
        wanted = number(argument)
        if wanted is None:
            return self._bad("That is not a message number")
        if not 1 <= wanted <= len(self._maildrop):
            return self._error("No such message")
        if wanted - 1 in self._maildrop.deleted:
            return self._error("That message is marked as deleted")
        return wanted - 1

    def _answered(self, *kinds: type[Event]) -> Event:
        event, self._awaiting = self._awaiting, None
        if not isinstance(event, kinds):
            raise RuntimeError(f"no answer to {event!r}")
        return event

    def _bad(self, text: str) -> None:
        """The client does not keep to the protocol; too often, and it is sent away."""
        self._error(text)
        self._count_error()

    def _count_error(self) -> None:
        self._errors_left -= 1
        if self._errors_left <= 0:
            self.closed = True

    def _ok(self, text: str) -> None:
        self._write(f"+OK {text}\r\n".encode("utf-8", "replace"))

    def _error(self, text: str, code: str = "") -> None:
        self._write(f"-ERR {f'[{code}] ' if code else ''}{text}\r\n".encode("utf-8", "replace"))

    def _write(self, data: bytes) -> None:
        if data:
            self._output.append(data)
            self._output_size += len(data)
