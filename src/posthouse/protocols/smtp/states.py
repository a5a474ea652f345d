"""The server's state table: what is allowed when, what waits for an answer, what one listener offers."""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class State(Enum):
    """Where the session stands."""

    __hash__ = object.__hash__  # Enum's own is computed in Python at every look-up

    NEW = "no hello yet"
    HELO = "after HELO"
    EHLO = "after EHLO or LHLO"
    MAIL = "sender accepted"
    RCPT = "a recipient accepted"
    MORE = "between BDAT chunks"
    REFUSED = "turned away at the greeting"
    AUTH = "a challenge is out"
    DATA = "within DATA"
    CHUNK = "within a BDAT chunk"


ANY_TIME: Final = frozenset({b"NOOP", b"RSET", b"QUIT", b"HELP", b"VRFY", b"EXPN", b"HELO", b"EHLO", b"LHLO"})

# The states in which commands are read. BDAT is not here, its octets follow whether it is allowed or not.
ALLOWED: Final = {
    State.NEW: ANY_TIME,
    State.HELO: ANY_TIME | {b"MAIL"},
    State.EHLO: ANY_TIME | {b"MAIL", b"STARTTLS", b"AUTH", b"XCLIENT"},
    State.MAIL: ANY_TIME | {b"RCPT"},
    State.RCPT: ANY_TIME | {b"RCPT", b"DATA"},
    State.MORE: ANY_TIME,
    State.REFUSED: frozenset({b"QUIT"}),  # RFC 5321 §3.1: 503 to everything else
}

# Without an event of their own, or cheap to ask for: these can be repeated for ever and lead nowhere.
IDLE: Final = ANY_TIME - {b"QUIT"}

NOT_IMPLEMENTED: Final = frozenset({b"ETRN", b"ATRN", b"TURN", b"SEND", b"SOML", b"SAML"})

# What a browser or a proxy can be made to say to us; what follows may be somebody's choosing, and is not read.
OTHER_PROTOCOLS: Final = frozenset({b"GET", b"POST", b"CONNECT", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PRI"})


class Asked(Enum):
    """Which event waits for its answer."""

    GREETING = "greeting"
    HELLO = "hello"
    STARTTLS = "STARTTLS"
    XCLIENT = "XCLIENT"
    TLS = "negotiation of TLS"
    AUTH = "authentication"
    MAIL = "sender"
    RCPT = "recipient"
    DATA = "DATA"
    BDAT = "first BDAT"
    END = "end of message"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What one listener offers.

    ``max_size_bytes``: 0 for any. ``starttls``: may be negotiated (so not where TLS stands from the first byte).
    ``auth``: mechanisms to offer at first. ``xclient``: the client is a proxy that may say who its
    client is. ``max_errors``: refused and malformed commands before the session
    is ended. ``max_idle_commands``: NOOP and the like without a message between them, before they count as
    errors. ``max_line``: octets of a command (RFC 5321 §4.5.3.1.4 asks for 512 and room for extensions).
    """

    hostname: str
    lmtp: bool = False
    max_size_bytes: int = 0
    max_recipients: int = 1000
    starttls: bool = False
    auth: tuple[str, ...] = ()
    require_auth: bool = False
    xclient: bool = False
    max_errors: int = 20
    max_idle_commands: int = 100
    max_line: int = 4096
