"""What the server did, as the client engine tells it.

The last event of a session is Finished, TurnedAway or Broken; it comes again whenever asked. A transaction
that was begun always gets its TransactionDone, before that.
"""

from dataclasses import dataclass

from posthouse.base.errors import Reply
from posthouse.protocols.smtp.capabilities import Capabilities


@dataclass(frozen=True, slots=True)
class Greeted:
    """The server welcomes us; the engine goes on with EHLO by itself."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Ready:
    """The server answered EHLO, LHLO or HELO. Your turn."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class TlsReady:
    """Begin to negotiate TLS now, then ``start_tls()``."""


@dataclass(frozen=True, slots=True)
class TlsRefused:
    """The server has no TLS after all. Your turn."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class AuthChallenge:
    """Answer with ``auth_response()`` or ``auth_cancel()``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AuthDone:
    """The exchange is over, for better or worse. Your turn."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class RecipientReply:
    """What RCPT got, for the recipient of this index. For the log: TransactionDone says it all."""

    index: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class SendBody:
    """The message may go: ``body()`` for its pieces, then ``end_body()``."""


@dataclass(frozen=True, slots=True)
class TransactionDone:
    """What became of each recipient, in the order of the request. Your turn."""

    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The session ended as we wished."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The server wants no session with us: its greeting, its answer to HELO, or a 421 at any time."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection was closed on us, or the server broke the protocol."""

    reason: str


ClientEvent = (
    Greeted
    | Ready
    | TlsReady
    | TlsRefused
    | AuthChallenge
    | AuthDone
    | RecipientReply
    | SendBody
    | TransactionDone
    | Finished
    | TurnedAway
    | Broken
)
