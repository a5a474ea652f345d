"""How the client hands over one message: MAIL, RCPT, then DATA (RFC 5321 §4.1.1.4) or BDAT (RFC 3030), and what the
server's replies mean for each recipient.

A session's first message, if it is small and the server has PIPELINING and CHUNKING, goes in one flight from MAIL to
BDAT LAST: one round trip instead of the two of DATA. For all others BDAT saves nothing, or is not safe: a server that
has said one thing too much (250 twice to one message) shows it by no 354 then, and the next message's reply to RCPT
would be taken for that to its end.
"""

from collections import deque
from enum import Enum

from posthouse.base.errors import Reply
from posthouse.protocols.smtp import client_events as events
from posthouse.protocols.smtp.body import OutgoingBody
from posthouse.protocols.smtp.capabilities import Capabilities
from posthouse.protocols.smtp.client_events import ClientEvent
from posthouse.protocols.smtp.reply_reader import ReplyReader
from posthouse.protocols.smtp.transaction import Transaction, TransactionRequest

FLIGHT_LIMIT = 65_536
"""The largest message that is sent before anybody is known to get it: what a refusal may cost."""


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
    END = "end of message"
    NOTHING_SENT = "end of an empty message"
    QUIT = "QUIT"


_UNSETTLED = Reply(451, "4.4.2", "The server did not say what became of the message")
_NOT_KNOWN = frozenset({500, 501, 502, 504})
"""What a server says to a command that it does not know. RFC 5321 §4.2.4."""


class Transfer:
    """The part of the engine that a transaction needs; ``SmtpClientEngine`` has the rest.

    ``mail_accepted``: whether the server has taken the last transaction's MAIL. ``lacks_bdat``: whether it has shown
    that it does not know BDAT, whatever it says.
    """

    def __init__(self, *, lmtp: bool, chunking: bool) -> None:
        self.lmtp = lmtp
        self.capabilities = Capabilities()
        self.closed = False
        self.mail_accepted = False
        self.lacks_bdat = False
        self._chunking = chunking and not lmtp  # one reply a chunk and one a recipient can't be told apart
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._events: deque[ClientEvent] = deque()
        self._awaited: deque[Awaited] = deque([Awaited.GREETING])
        self._unsent: deque[tuple[Awaited, bytes]] = deque()  # without PIPELINING: what waits for a reply
        self._transaction: Transaction | None = None
        self._needs_reset = False
        self._is_used = False  # there has been a transaction
        self._farewell: ClientEvent = events.Finished()

    def body(self, data: bytes) -> None:
        """A piece of the message. Without effect when the transaction is over already."""
        transaction = self._transaction
        if transaction is None or not transaction.sending or not data:
            return
        assert transaction.body is not None
        content = transaction.body.content(data)
        # A chunk begins with its length, so a flight is collected.
        (transaction.flight if transaction.is_flight else self._out).append(content)

    def end_body(self) -> None:
        """The message is complete. Without effect when the transaction is over already."""
        transaction = self._transaction
        if transaction is None or not transaction.sending:
            return
        assert transaction.body is not None
        content = b"".join([*transaction.flight, transaction.body.end()])
        transaction.flight.clear()
        transaction.sending = False
        if transaction.is_flight:
            self._put(Awaited.END, b"BDAT %d LAST\r\n" % len(content))
        self._out.append(content)

    # What is sent.

    def _begin_transaction(self, request: TransactionRequest) -> None:
        mail = request.mail_command(self.capabilities)
        rcpts = request.rcpt_commands(self.capabilities)
        transaction = self._transaction = Transaction(len(rcpts), is_flight=self._may_fly(request))
        self.mail_accepted = False
        self._is_used = True
        if self._needs_reset:
            self._unsent.append((Awaited.RSET, b"RSET\r\n"))
            self._needs_reset = False
        self._unsent.append((Awaited.MAIL, mail))
        self._unsent += [(Awaited.RCPT, line) for line in rcpts]
        if not transaction.is_flight and not request.is_probe:
            self._unsent.append((Awaited.DATA, b"DATA\r\n"))
        self._flush()
        if transaction.is_flight:
            self._start_body(transaction)

    def _may_fly(self, request: TransactionRequest) -> bool:
        is_offered = "CHUNKING" in self.capabilities and "PIPELINING" in self.capabilities
        return self._chunking and is_offered and not self._is_used and 0 < request.size <= FLIGHT_LIMIT

    def _put(self, awaited: Awaited, line: bytes) -> None:
        self._out.append(line)
        self._awaited.append(awaited)

    def _flush(self) -> None:
        """Send what waits: all of it with PIPELINING (RFC 2920), otherwise one command."""
        while self._unsent:
            self._put(*self._unsent.popleft())
            if "PIPELINING" not in self.capabilities:
                return

    # What the server says.

    def _reset(self, _transaction: Transaction, reply: Reply) -> None:
        if not reply.is_success:
            self._break(f"RSET refused: {reply}")

    def _mail(self, transaction: Transaction, reply: Reply) -> None:
        if reply.is_success:
            self.mail_accepted = transaction.open = True
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

    def _end(self, transaction: Transaction, reply: Reply) -> None:
        if transaction.sending:
            transaction.refusal = None if reply.is_success else reply
            self._break(f"reply before the end of the message: {reply}")
            return
        if transaction.is_flight and reply.code in _NOT_KNOWN:
            # It has taken the message for commands: nothing that it says from now on can be believed.
            self.lacks_bdat = True
            self._break(f"it offers CHUNKING and does not know BDAT: {reply}")
            return
        # What a server still knows of a transaction whose chunk it has refused is its own affair.
        transaction.open = transaction.open and transaction.is_flight and not reply.is_success
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
        is_wanted = transaction.accepted or (self._unsent and self._unsent[0][0] is not Awaited.DATA)
        if self._unsent and transaction.refusal is None and is_wanted:
            self._flush()
            return
        self._needs_reset = transaction.open
        self._finish_transaction(_UNSETTLED)

    def _start_body(self, transaction: Transaction) -> None:
        transaction.body = OutgoingBody(dotted=not transaction.is_flight)
        transaction.sending = True
        self._events.append(events.SendBody())

    def _finish_transaction(self, otherwise: Reply) -> None:
        if self._transaction is not None:
            self._events.append(events.TransactionDone(self._transaction.outcome(otherwise)))
        self._transaction = None
        self._unsent.clear()

    def _break(self, reason: str) -> None:
        self._finish_transaction(Reply(451, "4.4.2", f"Session with the server broke: {reason}"))
        self._close(events.Broken(reason))

    def _close(self, farewell: ClientEvent) -> None:
        self.closed = True
        self._farewell = farewell
        self._awaited.clear()
        self._reader.clear()
