"""The states of a connection and of its input, the commands each allows, and limits that hold in all of them."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from posthouse.protocols.imap.parser import PARSERS


class State(Enum):
    """RFC 3501 §3."""

    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()
    LOGOUT = auto()


class Mode(Enum):
    """What the next bytes are."""

    COMMAND = auto()
    """A line of a command."""
    LITERAL = auto()
    """A literal that belongs to the command being collected."""
    APPEND = auto()
    """The literal of APPEND."""
    APPEND_END = auto()
    """The rest of APPEND's line."""
    SWALLOW = auto()
    """A literal that nobody wants."""
    REST_OF_LINE = auto()
    """The rest of a command that has been refused."""
    SASL = auto()
    """A response to a challenge."""
    IDLE = auto()
    """DONE."""


ANY_STATE: Final = frozenset({b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID"})
AUTHENTICATED_COMMANDS: Final = ANY_STATE | {
    b"SELECT", b"EXAMINE", b"CREATE", b"DELETE", b"RENAME", b"SUBSCRIBE", b"UNSUBSCRIBE", b"LIST", b"LSUB",
    b"STATUS", b"APPEND", b"NAMESPACE", b"ENABLE", b"IDLE", b"GETQUOTA", b"GETQUOTAROOT", b"UNAUTHENTICATE",
    b"ESEARCH",
    b"GETMETADATA", b"SETMETADATA", b"SETACL", b"DELETEACL", b"GETACL", b"LISTRIGHTS", b"MYRIGHTS",
    b"NOTIFY", b"GENURLAUTH", b"RESETKEY", b"URLFETCH",
    b"COMPRESS",
}  # fmt: skip
ALLOWED: Final = {
    State.NOT_AUTHENTICATED: ANY_STATE | {b"STARTTLS", b"AUTHENTICATE", b"LOGIN"},
    State.AUTHENTICATED: AUTHENTICATED_COMMANDS,
    State.SELECTED: AUTHENTICATED_COMMANDS | {
        b"CANCELUPDATE", b"CHECK", b"CLOSE", b"UNSELECT", b"EXPUNGE", b"SEARCH", b"SORT", b"THREAD", b"FETCH",
        b"STORE", b"COPY",
        b"MOVE", b"UID EXPUNGE", b"UID SEARCH", b"UID SORT", b"UID THREAD", b"UID FETCH", b"UID STORE", b"UID COPY",
        b"UID MOVE", b"REPLACE", b"UID REPLACE",
    },
    State.LOGOUT: frozenset[bytes](),
}  # fmt: skip
BY_NUMBER: Final = frozenset({b"FETCH", b"STORE", b"SEARCH", b"SORT", b"THREAD", b"COPY", b"MOVE", b"REPLACE"})
"""What goes by sequence numbers: refused once UIDONLY is enabled (RFC 9586 §3)."""
KNOWN: Final = PARSERS.keys() | {b"APPEND", b"REPLACE", b"UID REPLACE"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask for. Sizes in octets."""

    max_line_bytes: int = 65_536
    max_command_bytes: int = 262_144
    """A command with its literals, APPEND's excepted."""
    max_append_bytes: int = 104_857_600
    max_swallow_bytes: int = 4 * 104_857_600
    """How much of an unasked-for literal is read and thrown away."""
    max_errors: int = 20
    """How many commands in a row may be bad."""
