"""The states of a connection, which commands each allows, and the limits that hold in all of them."""

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


ANY_STATE: Final = frozenset({b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID"})
AUTHENTICATED_COMMANDS: Final = ANY_STATE | {
    b"SELECT", b"EXAMINE", b"CREATE", b"DELETE", b"RENAME", b"SUBSCRIBE", b"UNSUBSCRIBE", b"LIST", b"LSUB",
    b"STATUS", b"APPEND", b"NAMESPACE", b"ENABLE", b"IDLE", b"GETQUOTA", b"GETQUOTAROOT", b"UNAUTHENTICATE",
}  # fmt: skip
ALLOWED: Final = {
    State.NOT_AUTHENTICATED: ANY_STATE | {b"STARTTLS", b"AUTHENTICATE", b"LOGIN"},
    State.AUTHENTICATED: AUTHENTICATED_COMMANDS,
    State.SELECTED: AUTHENTICATED_COMMANDS | {
        b"CHECK", b"CLOSE", b"UNSELECT", b"EXPUNGE", b"SEARCH", b"SORT", b"THREAD", b"FETCH", b"STORE", b"COPY",
        b"MOVE", b"UID EXPUNGE", b"UID SEARCH", b"UID SORT", b"UID THREAD", b"UID FETCH", b"UID STORE", b"UID COPY",
        b"UID MOVE",
    },
    State.LOGOUT: frozenset[bytes](),
}  # fmt: skip
KNOWN: Final = PARSERS.keys() | {b"APPEND"}


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
