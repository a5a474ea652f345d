"""How a message's content comes in: DATA (RFC 5321 §4.1.1.4) or BDAT chunks (RFC 3030 §2), until its last octet.

Invariants:
  1. Octets announced by BDAT are read as such in any state; a refused chunk is answered after its end.
  2. A message that can't be taken (too large, bare CR or LF) is void at once and refused at its end.
"""

from typing import Final

from posthouse.base.errors import PeerError, Reply
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.smtp import events, replies
from posthouse.protocols.smtp.body import IncomingBody
from posthouse.protocols.smtp.dialogue import Dialogue
from posthouse.protocols.smtp.events import Event
from posthouse.protocols.smtp.states import Asked, ServerOptions, State
from posthouse.protocols.smtp.xclient import parse_xclient

# Content is looked at in pieces, so that many short messages in one read don't cost a copy of the read each.
_PIECE: Final = 65_536


class Intake(Dialogue):
    """The transaction's second half."""

    def __init__(self, options: ServerOptions) -> None:
        super().__init__(options)
        self.authenticated = False
        self._state = State.NEW
        self._greeted = State.NEW  # where the session stands between transactions
        self._recipients = 0
        self._replies_due = 0
        self._body: IncomingBody | None = None
        self._void = False  # the driver knows that the message is not to be
        self._chunk_left = 0
        self._chunk_is_last = False
        self._verdict: Reply | None = None  # the chunk is swallowed, then answered with this,
        self._resume = State.NEW  # and this is where the session stands then

    @property
    def has_run_ahead(self) -> bool:
        """Whether there is input that the client may not send before it has our answer (RFC 2920 §3.1): any after
        HELO, which announces nothing, and any after DATA."""
        may_pipeline = self._greeted is State.EHLO and self._asked is not Asked.DATA
        return not may_pipeline and len(self._buffer) > 0

    def _xclient(self, argument: bytes) -> Event | None:
        if not self.options.xclient:
            return self._fail(replies.UNKNOWN_COMMAND)
        try:
            event = parse_xclient(argument)
        except PeerError as error:
            return self._fail(error.reply)
        self._asked = Asked.XCLIENT
        return event

    def accept_xclient(self, login: str | None) -> None:
        """The session starts anew, with who the proxy says is there; ``login``: None where it stays as it is."""
        self._answer(Asked.XCLIENT)
        if login is not None:
            self.authenticated = bool(login)
        self._state = self._greeted = State.NEW
        protocol = "LMTP" if self.options.lmtp else "ESMTP"
        self._put(Reply(220, "", f"{self.options.hostname} {protocol} Posthouse"))

    def _read_data(self) -> Event | Pause | None:
        data = self._buffer.take(_PIECE)
        if not data:
            return NEED_DATA
        assert self._body is not None
        content, left_over = self._body.dotted(data)
        self._pass_on(content)
        if left_over >= 0:
            self._buffer.untake(left_over)
            self._end_message()
        return None

    def _read_chunk(self) -> Event | Pause | None:
        data = self._buffer.take(min(self._chunk_left, _PIECE))
        if self._chunk_left and not data:
            return NEED_DATA
        self._chunk_left -= len(data)
        if self._body is not None:
            self._pass_on(self._body.chunk(data, last=self._chunk_is_last and not self._chunk_left))
        if not self._chunk_left:
            self._end_chunk()
        return None

    def _pass_on(self, content: bytes) -> None:
        if content:
            self._events.append(events.Chunk(content))
        elif self._body is not None and self._body.failure:
            self._void_message()

    def _end_chunk(self) -> None:
        verdict = self._verdict
        if verdict is None and self._body is not None:
            if self._chunk_is_last:
                return self._end_message()
            verdict = self._body.failure
            self._resume = self._greeted
        if verdict is None:
            self._state = State.MORE
            return self._put(replies.OK)
        self._verdict = self._body = None
        self._state = self._resume
        self._fail(verdict)
        return None

    def _end_message(self) -> None:
        """The last octet is in: ask the driver, unless the message is refused as such."""
        assert self._body is not None
        failure = self._body.failure
        self._body = None
        self._replies_due = self._recipients if self.options.lmtp else 1  # RFC 2033 §4.2
        if failure is None:
            self._asked = Asked.END
            self._events.append(events.MessageEnd())
            return
        for _ in range(self._replies_due):
            self._object(failure)
        self._state = self._greeted
        self._count_error()

    def _settle_message(self, reply: Reply) -> None:
        self._replies_due -= 1
        if self._replies_due:
            self._asked = Asked.END
        else:
            self._state = self._greeted
        if reply.is_success:
            self._forgive()
        elif reply.is_permanent_failure and not self.options.lmtp:
            self._count_error()

    def _drop_transaction(self) -> None:
        """Back to where the session stood before MAIL."""
        if self._state in (State.MAIL, State.RCPT, State.MORE):
            self._void_message()
        self._body = None
        self._state = self._greeted

    def _void_message(self) -> None:
        if not self._void:
            self._void = True
            self._events.append(events.Reset())
