"""What the engine tells its driver: commands, and what comes of literals, SASL and IDLE."""

from dataclasses import dataclass
from datetime import datetime

from posthouse.protocols.imap.commands import Command


@dataclass(frozen=True, slots=True)
class MessageStart:
    """APPEND has one more message (RFC 3502 §6.3.11)."""

    flags: frozenset[str]
    date: datetime | None


@dataclass(frozen=True, slots=True)
class CatenateUrl:
    """A part of the message that is on the server already (RFC 4469 §3)."""

    url: str


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    """Some of APPEND's literal; literals of one message follow each other (RFC 4469)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """APPEND has come whole, its line ended as it should; it wants its completion."""


@dataclass(frozen=True, slots=True)
class CommandAborted:
    """APPEND's line went on after the literal: it has been answered, and the message is to be dropped."""


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's answer to a SASL challenge, decoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AuthCancelled:
    """The client gave up the SASL exchange."""


@dataclass(frozen=True, slots=True)
class IdleDone:
    """IDLE is over; ``clean`` is False where the client said something else than DONE."""

    clean: bool


Event = (
    Command
    | LiteralChunk
    | MessageStart
    | CatenateUrl
    | CommandEnd
    | CommandAborted
    | AuthResponse
    | AuthCancelled
    | IdleDone
)
