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
from collections.abc import Callable
from typing import ClassVar

from posthouse.base.errors import Reply
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, Pause
from posthouse.protocols.smtp import client_events as events
from posthouse.protocols.smtp.capabilities import Capabilities, parse_capabilities
from posthouse.protocols.smtp.client_events import ClientEvent
from posthouse.protocols.smtp.reply_reader import MalformedReplyError
from posthouse.protocols.smtp.transaction import Transaction, TransactionRequest
from posthouse.protocols.smtp.transfer import Awaited, Transfer

# Which positive class of reply each command may get, where it is not 2.
_POSITIVE = {Awaited.DATA: (3,), Awaited.AUTH: (2, 3)}


class SmtpClientEngine(Transfer):
    """One session with one server, from its greeting on. ``chunking``: BDAT where that is quicker."""

    def __init__(self, hostname: str, *, lmtp: bool = False, chunking: bool = False) -> None:
        super().__init__(lmtp=lmtp, chunking=chunking)
        self.hostname = hostname
        self.tls = False
        self._end_of_input = False
        self._tls_pending = False

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
        self._begin_transaction(request)

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

    # What follows from it.

    def _hello(self) -> None:
        verb = Awaited.LHLO if self.lmtp else Awaited.EHLO
        self._put(verb, f"{verb.value} {self.hostname}\r\n".encode("ascii"))

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

    def _turn_away(self, reply: Reply) -> None:
        self._finish_transaction(reply)
        self._close(events.TurnedAway(reply))

    def _close_by_peer(self) -> None:
        if Awaited.QUIT in self._awaited:
            self._close(events.Finished())
        else:
            self._break("connection closed by the server")

    _IN_SESSION: ClassVar[dict[Awaited, Callable[["SmtpClientEngine", Reply], None]]] = {
        Awaited.GREETING: _greeting,
        Awaited.EHLO: _ehlo,
        Awaited.LHLO: _ehlo,
        Awaited.HELO: _helo,
        Awaited.STARTTLS: _starttls,
        Awaited.AUTH: _auth,
    }
    _IN_TRANSACTION: ClassVar[dict[Awaited, Callable[["SmtpClientEngine", Transaction, Reply], None]]] = {
        Awaited.RSET: Transfer._reset,
        Awaited.MAIL: Transfer._mail,
        Awaited.RCPT: Transfer._rcpt,
        Awaited.DATA: Transfer._data,
        Awaited.END: Transfer._end,
        Awaited.NOTHING_SENT: Transfer._nothing_sent,
    }


def _base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)
