"""The client's side of SMTP (RFC 5321) and LMTP (RFC 2033), without I/O.

The driver pulls events; on NEED_REPLY it is its turn: to begin something, or to go on with what it has begun.
EHLO is sent as soon as the server has greeted, and again after TLS.

Invariants:
  1. Every reply belongs to the oldest command without one. How they are cut changes nothing.
  2. A transaction that was begun ends in one TransactionDone with a reply for each recipient, also when the
     session breaks: what the server has not taken responsibility for then is to be tried again.
  3. Memory is bounded by what the driver hands in and one reply.
"""

from binascii import a2b_base64, b2a_base64
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from posthouse.base.errors import Reply
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, Pause
from posthouse.protocols.smtp import client_events as events
from posthouse.protocols.smtp.body import OutgoingBody
from posthouse.protocols.smtp.capabilities import Capabilities, parse_capabilities
from posthouse.protocols.smtp.client_events import ClientEvent
from posthouse.protocols.smtp.reply_reader import MalformedReplyError, ReplyReader
from posthouse.protocols.smtp.transaction import Transaction, TransactionRequest


class Awaited(Enum):
    """What a reply will be the reply to."""

    GREETING = "greeting"
    EHLO = "EHLO"
    LHLO = "LHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CHUNK = "BDAT"
    END = "end of message"
    NOTHING_SENT = "end of an empty message"
    QUIT = "QUIT"


# Which positive class of reply each command may get, where it is not 2.
_POSITIVE = {Awaited.DATA: (3,), Awaited.AUTH: (2, 3)}

_UNSETTLED = Reply(451, "4.4.2", "The server did not say what became of the message")


class SmtpClientEngine:
    """One session with one server, from its greeting on. ``chunking``: prefer BDAT where it is offered."""

    def __init__(self, hostname: str, *, lmtp: bool = False, chunking: bool = False) -> None:
        self.hostname = hostname
        self.lmtp = lmtp
        self.capabilities = Capabilities()
        self.tls = False
        self.closed = False
        self._chunking = chunking and not lmtp  # one reply a chunk and one a recipient can't be told apart
        self._reader = ReplyReader()
        self._end_of_input = False
        self._out: list[bytes] = []
        self._events: deque[ClientEvent] = deque()
        self._awaited: deque[Awaited] = deque([Awaited.GREETING])
        self._unsent: deque[tuple[Awaited, bytes]] = deque()  # without PIPELINING: what waits for a reply
        self._tls_pending = False
        self._transaction: Transaction | None = None
        self._needs_reset = False
        self._farewell: ClientEvent = events.Finished()

    # Bytes.

    def receive(self, data: bytes) -> None:
        """Bytes from the server; ``b""`` when it has closed the connection."""
        if not data:
            self._end_of_input = True
        elif not self.closed:
            self._reader.feed(data)

    def data_to_send(self) -> bytes:
        """What is to be written now; it is handed out once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def next_event(self) -> ClientEvent | Pause:
        """The next thing that happened; NEED_DATA: the server is to speak; NEED_REPLY: it is your turn."""
        while True:
            if self._events:
                return self._events.popleft()
            if self.closed:
                return self._farewell
            if self._is_drivers_turn:
                return NEED_REPLY
            try:
                reply = self._reader.reply()
            except MalformedReplyError as error:
                self._break(str(error))
                continue
            if reply is not None:
                self._dispatch(reply)
            elif self._end_of_input:
                self._close_by_peer()
            else:
                sending = self._transaction is not None and self._transaction.sending
                return NEED_REPLY if sending else NEED_DATA

    # The driver's turn.

    def starttls(self) -> None:
        """Ask for TLS; TlsReady or TlsRefused follows."""
        self._begin(Awaited.STARTTLS, b"STARTTLS\r\n")

    def start_tls(self) -> None:
        """TLS stands: what was received in clear is gone (RFC 3207 §4.2), Ready comes anew."""
        if not self._tls_pending:
            raise RuntimeError("TLS was not agreed")
        self._tls_pending = False
        self._reader.clear()
        self.tls = True
        self._hello()

    def authenticate(self, mechanism: str, initial: bytes | None = None) -> None:
        """Begin an exchange; AuthChallenge or AuthDone follows. RFC 4954 §4."""
        line = b"AUTH " + mechanism.encode("ascii")
        if initial is not None:
            line += b" " + (_base64(initial) or b"=")
        self._begin(Awaited.AUTH, line + b"\r\n")

    def auth_response(self, data: bytes) -> None:
        """Answer a challenge."""
        self._begin(Awaited.AUTH, _base64(data) + b"\r\n")

    def auth_cancel(self) -> None:
        """Give up the exchange; AuthDone follows."""
        self._begin(Awaited.AUTH, b"*\r\n")

    def quit(self) -> None:
        """End the session; Finished follows."""
        self._begin(Awaited.QUIT, b"QUIT\r\n")

    def send(self, request: TransactionRequest) -> None:
        """Begin a transaction; TransactionDone follows, if there is something to send after SendBody."""
        self._require_turn()
        refusal = request.refusal(self.capabilities)
        if refusal is not None or not request.recipients:
            replies = tuple([refusal] * len(request.recipients)) if refusal else ()
            self._events.append(events.TransactionDone(replies))
            return
        mail = request.mail_command(self.capabilities)
        rcpts = request.rcpt_commands(self.capabilities)
        self._transaction = Transaction(len(rcpts))
        if self._needs_reset:
            self._unsent.append((Awaited.RSET, b"RSET\r\n"))
            self._needs_reset = False
        self._unsent.append((Awaited.MAIL, mail))
        self._unsent += [(Awaited.RCPT, line) for line in rcpts]
        if not self._uses_bdat:
            self._unsent.append((Awaited.DATA, b"DATA\r\n"))
        self._flush()

    def body(self, data: bytes) -> None:
        """A piece of the message. Without effect when the transaction is over already."""
        transaction = self._transaction
        if transaction is None or not transaction.sending or not data:
            return
        assert transaction.body is not None
        content = transaction.body.content(data)
        if content and self._uses_bdat:
            self._out.append(b"BDAT %d\r\n" % len(content))
            self._awaited.append(Awaited.CHUNK)
        self._out.append(content)

    def end_body(self) -> None:
        """The message is complete. Without effect when the transaction is over already."""
        transaction = self._transaction
        if transaction is None or not transaction.sending:
            return
        assert transaction.body is not None
        content = transaction.body.end()
        transaction.sending = False
        if self._uses_bdat:
            self._out.append(b"BDAT %d LAST\r\n" % len(content))
            self._awaited.append(Awaited.END)
        self._out.append(content)

    # What the server says.

    def _dispatch(self, reply: Reply) -> None:
        if not self._awaited:
            self._turn_away(reply) if reply.code == 421 else self._break(f"unexpected reply: {reply}")
            return
        awaited = self._awaited.popleft()
        if awaited is Awaited.QUIT:
            self._close(events.Finished())
        elif reply.code == 421:
            self._turn_away(reply)
        elif reply.is_success and reply.code // 100 not in _POSITIVE.get(awaited, (2,)):
            self._break(f"unexpected reply to {awaited.value}: {reply}")
        elif awaited in self._IN_TRANSACTION:
            assert self._transaction is not None
            self._IN_TRANSACTION[awaited](self, self._transaction, reply)
            self._advance()
        else:
            self._IN_SESSION[awaited](self, reply)

    def _greeting(self, reply: Reply) -> None:
        if not reply.is_success:
            return self._turn_away(reply)
        self._events.append(events.Greeted(reply))
        return self._hello()

    def _ehlo(self, reply: Reply) -> None:
        if reply.is_success:
            self.capabilities = parse_capabilities(reply)
            self._events.append(events.Ready(self.capabilities))
        elif reply.is_permanent_failure and not self.lmtp:
            self._put(Awaited.HELO, b"HELO %b\r\n" % self.hostname.encode("ascii"))  # RFC 5321 §3.2
        else:
            self._turn_away(reply)

    def _helo(self, reply: Reply) -> None:
        if not reply.is_success:
            return self._turn_away(reply)
        self.capabilities = Capabilities()
        self._events.append(events.Ready(self.capabilities))
        return None

    def _starttls(self, reply: Reply) -> None:
        self._tls_pending = reply.is_success
        self._events.append(events.TlsReady() if reply.is_success else events.TlsRefused(reply))

    def _auth(self, reply: Reply) -> None:
        if reply.code // 100 != 3:
            self._events.append(events.AuthDone(reply))
            return
        try:
            challenge = a2b_base64(reply.text.encode("ascii"), strict_mode=True)
        except ValueError:
            self._put(Awaited.AUTH, b"*\r\n")
        else:
            self._events.append(events.AuthChallenge(challenge))

    def _reset(self, _transaction: Transaction, reply: Reply) -> None:
        if not reply.is_success:
            self._break(f"RSET refused: {reply}")

    def _mail(self, transaction: Transaction, reply: Reply) -> None:
        if reply.is_success:
            transaction.open = True
        else:
            transaction.refusal = reply

    def _rcpt(self, transaction: Transaction, reply: Reply) -> None:
        index = transaction.answered
        transaction.answered += 1
        if transaction.refusal is not None:
            return
        self._events.append(events.RecipientReply(index, reply))
        if reply.is_success:
            transaction.accepted.append(index)
        else:
            transaction.replies[index] = reply

    def _data(self, transaction: Transaction, reply: Reply) -> None:
        if not reply.is_success:
            transaction.refusal = transaction.refusal or reply
        elif transaction.accepted:
            self._start_body(transaction)
            self._awaited.extend([Awaited.END] * (len(transaction.accepted) if self.lmtp else 1))
        else:
            # RFC 2920 §3.1: DATA was pipelined and let through although nobody is to get the message.
            self._put(Awaited.NOTHING_SENT, b".\r\n")

    def _chunk(self, transaction: Transaction, reply: Reply) -> None:
        if not reply.is_success:
            transaction.refusal = transaction.refusal or reply
            transaction.sending = False

    def _end(self, transaction: Transaction, reply: Reply) -> None:
        if transaction.sending:
            transaction.refusal = None if reply.is_success else reply
            self._break(f"reply before the end of the message: {reply}")
            return
        transaction.open = False
        if transaction.refusal is None:
            for _ in range(1 if self.lmtp else len(transaction.accepted)):
                transaction.replies[transaction.accepted.popleft()] = reply

    def _nothing_sent(self, transaction: Transaction, _reply: Reply) -> None:
        transaction.open = False

    # What follows from it.

    def _advance(self) -> None:
        """The next step of the transaction, once everything sent is answered."""
        transaction = self._transaction
        if transaction is None or self._awaited or transaction.sending:
            return
        if self._unsent and transaction.refusal is None:
            if transaction.accepted or self._unsent[0][0] is not Awaited.DATA:
                self._flush()
                return
        elif self._uses_bdat and transaction.body is None and transaction.accepted:
            self._start_body(transaction)
            return
        self._needs_reset = transaction.open
        self._finish_transaction(_UNSETTLED)

    def _start_body(self, transaction: Transaction) -> None:
        transaction.body = OutgoingBody(dotted=not self._uses_bdat)
        transaction.sending = True
        self._events.append(events.SendBody())

    def _finish_transaction(self, otherwise: Reply) -> None:
        if self._transaction is not None:
            self._events.append(events.TransactionDone(self._transaction.outcome(otherwise)))
        self._transaction = None
        self._unsent.clear()

    def _hello(self) -> None:
        verb = Awaited.LHLO if self.lmtp else Awaited.EHLO
        self._put(verb, f"{verb.value} {self.hostname}\r\n".encode("ascii"))

    def _put(self, awaited: Awaited, line: bytes) -> None:
        self._out.append(line)
        self._awaited.append(awaited)

    def _flush(self) -> None:
        """Send what waits: all of it with PIPELINING (RFC 2920), otherwise one command."""
        while self._unsent:
            self._put(*self._unsent.popleft())
            if "PIPELINING" not in self.capabilities:
                return

    def _begin(self, awaited: Awaited, line: bytes) -> None:
        self._require_turn()
        self._put(awaited, line)

    def _require_turn(self) -> None:
        if self.closed or self._awaited or self._tls_pending or self._transaction is not None:
            raise RuntimeError("it is not the driver's turn")

    @property
    def _is_drivers_turn(self) -> bool:
        """Nothing is under way. What the server says meanwhile is looked at once something is, so that it doesn't
        matter when it came; unless it has hung up: then nothing can be begun any more."""
        idle = not self._awaited and self._transaction is None
        return self._tls_pending or (idle and not self._end_of_input)

    @property
    def _uses_bdat(self) -> bool:
        return self._chunking and "CHUNKING" in self.capabilities

    def _turn_away(self, reply: Reply) -> None:
        self._finish_transaction(reply)
        self._close(events.TurnedAway(reply))

    def _break(self, reason: str) -> None:
        self._finish_transaction(Reply(451, "4.4.2", f"Session with the server broke: {reason}"))
        self._close(events.Broken(reason))

    def _close_by_peer(self) -> None:
        if Awaited.QUIT in self._awaited:
            self._close(events.Finished())
        else:
            self._break("connection closed by the server")

    def _close(self, farewell: ClientEvent) -> None:
        self.closed = True
        self._farewell = farewell
        self._awaited.clear()
        self._reader.clear()

    _IN_SESSION: ClassVar[dict[Awaited, Callable[["SmtpClientEngine", Reply], None]]] = {
        Awaited.GREETING: _greeting,
        Awaited.EHLO: _ehlo,
        Awaited.LHLO: _ehlo,
        Awaited.HELO: _helo,
        Awaited.STARTTLS: _starttls,
        Awaited.AUTH: _auth,
    }
    _IN_TRANSACTION: ClassVar[dict[Awaited, Callable[["SmtpClientEngine", Transaction, Reply], None]]] = {
        Awaited.RSET: _reset,
        Awaited.MAIL: _mail,
        Awaited.RCPT: _rcpt,
        Awaited.DATA: _data,
        Awaited.CHUNK: _chunk,
        Awaited.END: _end,
        Awaited.NOTHING_SENT: _nothing_sent,
    }


def _base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)
