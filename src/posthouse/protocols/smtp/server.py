"""The server's side of SMTP (RFC 5321) and LMTP (RFC 2033), without I/O.

The driver pulls events and answers those that ask for it; everything that takes no decision is answered here.
Order of replies is order of commands: input that was pipelined after an unanswered event waits (RFC 2920).

Invariants:
  1. How the input is cut changes neither events (but where chunks of content are cut) nor output.
  2. Memory is bounded by one line and what ``receive()`` gets in one go; work is linear in the input.
  3. What the client announced as a message's octets is never taken for commands.
  4. Nothing received before TLS has an effect after it (RFC 3207 §4.2).
  5. A session that leads nowhere ends: errors and idle commands are counted.
"""

from binascii import a2b_base64
from collections.abc import Callable
from typing import ClassVar

from posthouse.base.errors import PeerError, Reply
from posthouse.message.address import parse_path
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, LineTooLongError, Pause
from posthouse.protocols.smtp import events, replies
from posthouse.protocols.smtp.body import IncomingBody
from posthouse.protocols.smtp.capabilities import announcement
from posthouse.protocols.smtp.events import Event
from posthouse.protocols.smtp.intake import Intake
from posthouse.protocols.smtp.parameters import mail_parameters, rcpt_parameters, split_path
from posthouse.protocols.smtp.states import (
    ALLOWED,
    IDLE,
    NOT_IMPLEMENTED,
    OTHER_PROTOCOLS,
    Asked,
    ServerOptions,
    State,
)

_GRAPHIC = bytes(range(33, 127))


class SmtpServerEngine(Intake):
    """One session. The first thing that waits for an answer is the connection itself: ``greet()``.

    ``auth_mechanisms`` may be set at any time; ``tls`` and ``authenticated`` say what was reached.
    """

    def __init__(self, options: ServerOptions) -> None:
        super().__init__(options)
        self.auth_mechanisms = options.auth
        self.tls = False
        self._hello_state = State.EHLO  # what the hello that waits for its answer leads to
        self._utf8 = False

    def next_event(self) -> Event | Pause:
        """The next thing the client wants, or why there is none."""
        while True:
            if self._events:
                return self._events.popleft()
            if self._asked is not None:
                return NEED_REPLY
            if self.closed:
                return self._goodbye
            event = self._READERS.get(self._state, SmtpServerEngine._read_command)(self)
            if event is NEED_DATA and self._end_of_input:
                self._end("connection closed by the client")
            elif event is not None:
                return event

    # What the driver answers.

    def greet(self) -> None:
        """Welcome the client. To turn it away: ``reply()``."""
        self._answer(Asked.GREETING)
        protocol = "LMTP" if self.options.lmtp else "ESMTP"
        self._put(Reply(220, "", f"{self.options.hostname} {protocol} Posthouse"))

    def accept_hello(self) -> None:
        """Greet back, with what is on offer unless it was HELO. Ends a transaction in progress."""
        self._answer(Asked.HELLO)
        self._drop_transaction()
        options = self.options
        self._state = self._greeted = self._hello_state
        if self._greeted is State.HELO:
            self._put(Reply(250, "", options.hostname))
            return
        self._out.append(
            announcement(
                options.hostname,
                max_size_bytes=options.max_size_bytes,
                starttls=options.starttls and not self.tls,
                mechanisms=() if self.authenticated else tuple(self.auth_mechanisms),
                xclient=options.xclient,
                tls=self.tls and not options.lmtp,
            )
        )

    def accept_starttls(self) -> None:
        """Let the client begin; ``start_tls()`` once TLS stands."""
        self._answer(Asked.STARTTLS)
        self._put(replies.START_TLS)
        self._asked = Asked.TLS

    def start_tls(self) -> None:
        """TLS stands: the session starts anew, and whatever came in clear is gone (RFC 3207 §4.2)."""
        self._answer(Asked.TLS)
        self._buffer.clear()
        self.tls = True
        self.authenticated = False
        self._state = self._greeted = State.NEW

    def auth_challenge(self, data: bytes) -> None:
        """Ask the client for its next response."""
        self._answer(Asked.AUTH)
        self._put_challenge(data)
        self._state = State.AUTH

    def auth_success(self) -> None:
        """The client is who it says it is."""
        self._answer(Asked.AUTH)
        self._put(replies.AUTH_SUCCEEDED)
        self.authenticated = True

    def auth_failure(self, reply: Reply) -> None:
        """It is not, or we can't tell."""
        self.reply(reply)

    def accept_data(self) -> None:
        """Let the message come."""
        dotted = self._asked is Asked.DATA
        self._answer(Asked.DATA if dotted else Asked.BDAT)
        self._body = IncomingBody(self.options.max_size_bytes, dotted=dotted)
        if dotted:
            self._put(replies.START_DATA)
            self._state = State.DATA

    def reply(self, reply: Reply) -> None:
        """Answer what waits. A 421 ends the session (RFC 5321 §3.8)."""
        asked = self._asked
        if asked is None:
            raise RuntimeError("nothing waits for an answer")
        self._asked = None
        if reply.code == 421:
            self._end("421 sent", reply)
        elif asked is Asked.BDAT:
            self._verdict = reply  # the chunk is on its way all the same
            self._resume = self._greeted
        elif asked is Asked.END:
            self._put(reply)
            self._settle_message(reply)
        elif reply.code >= 400:
            self._put(reply)
            self._settle_refusal(asked, reply)
        else:
            self._put(reply)
            self._settle_acceptance(asked)

    def _settle_acceptance(self, asked: Asked) -> None:
        if asked is Asked.RCPT:
            self._recipients += 1
            self._state = State.RCPT
        elif asked is Asked.MAIL:
            self._recipients = 0
            self._void = False
            self._state = State.MAIL

    def _settle_refusal(self, asked: Asked, reply: Reply) -> None:
        if asked is Asked.GREETING:
            self._state = State.REFUSED
        elif asked is Asked.DATA:
            self._state = self._greeted
        # In LMTP the client is a mail server that relays what others sent it: unknown users aren't its errors.
        if reply.is_permanent_failure and not self.options.lmtp:
            self._count_error()

    # What the client says, by state.

    def _read_command(self) -> Event | Pause | None:
        try:
            line = self._buffer.line()
        except LineTooLongError:
            return self._end("line too long", replies.LINE_TOO_LONG)
        if line is None:
            return NEED_DATA
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if verb == b"BDAT":
            return self._bdat(argument)
        command = self._COMMANDS.get(verb)
        if command is None:
            return self._unknown(verb)
        if len(line) > self.options.max_line and verb != b"AUTH":
            return self._fail(replies.LINE_TOO_LONG)
        if verb not in ALLOWED[self._state]:
            return self._fail(_out_of_sequence(self._state, verb, lmtp=self.options.lmtp))
        if verb in IDLE:
            self._count_idle_command()
            if self.closed:
                return None
        return command(self, argument.strip(b" \t"))

    def _read_auth_response(self) -> Event | Pause | None:
        try:
            line = self._buffer.line()
        except LineTooLongError:
            return self._end("line too long", replies.LINE_TOO_LONG)
        if line is None:
            return NEED_DATA
        self._state = self._greeted
        if line == b"*":
            self._fail(replies.AUTH_CANCELLED)
            return events.AuthCancelled()
        try:
            response = a2b_base64(line, strict_mode=True)
        except ValueError:
            self._fail(replies.BAD_BASE64)
            return events.AuthCancelled()
        self._asked = Asked.AUTH
        return events.AuthResponse(response)

    # Commands.

    def _helo(self, argument: bytes) -> Event | None:
        return self._hello("HELO", argument)

    def _ehlo(self, argument: bytes) -> Event | None:
        return self._hello("EHLO", argument)

    def _lhlo(self, argument: bytes) -> Event | None:
        return self._hello("LHLO", argument)

    def _hello(self, verb: str, argument: bytes) -> Event | None:
        if (verb == "LHLO") != self.options.lmtp:  # RFC 2033 §4.1
            return self._fail(replies.UNKNOWN_COMMAND)
        if not argument or len(argument) > 255 or not _is_graphic(argument):
            return self._fail(replies.BAD_HELLO)
        self._hello_state = State.HELO if verb == "HELO" else State.EHLO
        self._asked = Asked.HELLO
        return events.Hello(argument.decode("ascii"), verb)

    def _starttls(self, argument: bytes) -> Event | None:
        if argument:
            return self._fail(replies.NO_ARGUMENT)
        if self.tls or not self.options.starttls:
            return self._fail(replies.NOT_IMPLEMENTED)
        self._asked = Asked.STARTTLS
        return events.StartTls()

    def _auth(self, argument: bytes) -> Event | None:
        if self.authenticated:
            return self._fail(replies.ALREADY_AUTHENTICATED)
        if not self.auth_mechanisms:
            return self._fail(replies.NEED_TLS if self.options.starttls and not self.tls else replies.NOT_IMPLEMENTED)
        mechanism, *response = argument.split() or (b"",)
        if not mechanism or len(response) > 1:
            return self._fail(replies.BAD_AUTH)
        name = mechanism.decode("ascii", "replace").upper()
        if name not in self.auth_mechanisms:
            return self._fail(replies.UNKNOWN_MECHANISM)
        initial = None
        if response:
            try:
                # RFC 4954 §4: "=" is the empty response, nothing is none.
                initial = b"" if response[0] == b"=" else a2b_base64(response[0], strict_mode=True)
            except ValueError:
                return self._fail(replies.BAD_BASE64)
        self._asked = Asked.AUTH
        return events.Auth(name, initial)

    def _mail(self, argument: bytes) -> Event | None:
        if self.options.require_auth and not self.authenticated:
            return self._fail(replies.AUTH_REQUIRED)
        try:
            path, words = split_path(argument, b"FROM:")
            given = mail_parameters(words)
            sender = _address(path, "5.1.7", utf8=given.smtputf8, sender=True)
        except PeerError as error:
            return self._fail(error.reply)
        if given.requiretls and not self.tls:  # RFC 8689 §2: it is not even offered there
            return self._fail(replies.NEED_TLS)
        if 0 < self.options.max_size_bytes < given.size:  # RFC 1870 §6.1
            return self._object(replies.TOO_LARGE)
        self._utf8 = given.smtputf8
        self._asked = Asked.MAIL
        size, body, utf8 = given.size, given.body, given.smtputf8
        return events.MailFrom(sender, size, body, utf8, given.ret, given.envid, given.auth, given.requiretls)

    def _rcpt(self, argument: bytes) -> Event | None:
        if self._recipients >= self.options.max_recipients:
            return self._object(replies.TOO_MANY_RECIPIENTS)
        try:
            path, words = split_path(argument, b"TO:")
            given = rcpt_parameters(words)
            recipient = _address(path, "5.1.3", utf8=self._utf8)
        except PeerError as error:
            return self._fail(error.reply)
        self._asked = Asked.RCPT
        return events.RcptTo(recipient, given.notify, given.orcpt)

    def _data(self, argument: bytes) -> Event | None:
        if argument:
            return self._fail(replies.NO_ARGUMENT)
        self._asked = Asked.DATA
        return events.DataStart()

    def _bdat(self, argument: bytes) -> Event | None:
        """RFC 3030 §2. Whatever is wrong, the chunk's octets follow and must not be read as commands."""
        size, *last = argument.upper().split() or (b"",)
        if not size.isdigit() or len(size) > 20 or last not in ([], [b"LAST"]):
            return self._end("BDAT of unknown size", replies.BAD_BDAT)
        self._chunk_left = int(size)
        self._chunk_is_last = bool(last)
        begun, self._state = self._state, State.CHUNK
        if begun is State.RCPT:
            self._asked = Asked.BDAT
            return events.DataStart()
        if begun is not State.MORE:
            self._verdict = _out_of_sequence(begun, b"BDAT", lmtp=self.options.lmtp)
            self._resume = begun
        elif not self._chunk_left:
            self._count_idle_command()
        return None

    def _rset(self, argument: bytes) -> Event | None:
        if argument:
            return self._fail(replies.NO_ARGUMENT)
        self._drop_transaction()
        return self._put(replies.OK)

    def _noop(self, _argument: bytes) -> Event | None:
        return self._put(replies.OK)

    def _help(self, _argument: bytes) -> Event | None:
        return self._put(replies.HELP)

    def _vrfy(self, argument: bytes) -> Event | None:
        """RFC 5321 §7.3: no way to find out who lives here."""
        return self._put(replies.VRFY) if argument else self._fail(replies.NEED_ARGUMENT)

    def _expn(self, _argument: bytes) -> Event | None:
        return self._fail(replies.NOT_IMPLEMENTED)

    def _quit(self, _argument: bytes) -> Event | None:
        return self._end("QUIT", replies.BYE)

    def _unknown(self, verb: bytes) -> Event | None:
        if verb in OTHER_PROTOCOLS:
            return self._end("not SMTP", replies.NOT_SMTP)
        return self._fail(replies.NOT_IMPLEMENTED if verb in NOT_IMPLEMENTED else replies.UNKNOWN_COMMAND)

    _COMMANDS: ClassVar[dict[bytes, Callable[["SmtpServerEngine", bytes], Event | None]]] = {
        b"HELO": _helo,
        b"EHLO": _ehlo,
        b"LHLO": _lhlo,
        b"STARTTLS": _starttls,
        b"AUTH": _auth,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"RSET": _rset,
        b"NOOP": _noop,
        b"HELP": _help,
        b"VRFY": _vrfy,
        b"EXPN": _expn,
        b"QUIT": _quit,
        b"XCLIENT": Intake._xclient,
    }
    _READERS: ClassVar[dict[State, Callable[["SmtpServerEngine"], Event | Pause | None]]] = {
        State.AUTH: _read_auth_response,
        State.DATA: Intake._read_data,
        State.CHUNK: Intake._read_chunk,
    }


def _out_of_sequence(state: State, verb: bytes, *, lmtp: bool) -> Reply:
    if state is State.NEW:
        return replies.NEED_HELLO
    if state is State.MAIL and verb in (b"DATA", b"BDAT"):
        # RFC 2920 §3.1: every recipient was refused; RFC 2033 §4.2 wants a 503.
        return replies.NEED_RECIPIENT if lmtp else replies.NO_VALID_RECIPIENTS
    return replies.BAD_SEQUENCE


def _is_graphic(text: bytes) -> bool:
    """Whether there is nothing in it but visible ASCII, not even a blank."""
    return not text.translate(None, _GRAPHIC)


def _address(path: bytes, status: str, *, utf8: bool, sender: bool = False) -> str:
    """The address in a path; PeerError with the enhanced status that fits."""
    if not utf8 and not path.isascii():
        raise PeerError(replies.NEED_SMTPUTF8)  # RFC 6531 §3.5
    try:
        address = parse_path(path, allow_empty=sender, utf8=utf8)
    except ValueError as error:
        raise PeerError(Reply(501, status, f"Bad address syntax: {error}")) from None
    if sender and address and "@" not in address:
        raise PeerError(Reply(501, status, "Bad address syntax: address without domain"))
    return address
