"""What a milter says, as the engine tells it.

Invariant: an answer ends what was asked; everything else comes before one, and but for ``Progress`` only at the end
of a message.
"""

from dataclasses import dataclass
from enum import Enum

from posthouse.base.errors import Reply
from posthouse.protocols.milter.codes import Actions, Steps


class Answer(Enum):
    """An answer without a text of its own (``SMFIR_*``)."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    """Nothing more of this message; after connect and HELO, of this session."""
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    DISCARD = "discard"
    """Take the message and throw it away."""
    SKIP = "skip"
    """Nothing more of the body."""
    SHUTDOWN = "shutdown"
    """End the session with a 421."""


@dataclass(frozen=True, slots=True)
class ReplyWith:
    """An answer: refuse with that 4xx or 5xx."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The milter is ready. ``macros``: what it wants to be told, by the number of the stage, where it has said so."""

    version: int
    actions: Actions
    steps: Steps
    macros: dict[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Progress:
    """It is still at work."""


@dataclass(frozen=True, slots=True)
class AddHeader:
    """A field at the end of the header section."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class InsertHeader:
    """A field at ``index``: 0 is above everything, the Received field of this host too; 1 right below that one."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """Another value for the ``index``-th field of that name, counted from 1; an empty one removes it."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Another envelope sender; ``arguments`` are ESMTP parameters as they stand after ``MAIL FROM:<...>``."""

    path: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """One more recipient; ``arguments`` as for ``RCPT TO``."""

    path: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class DeleteRecipient:
    """One fewer."""

    path: str


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """The next octets of another body. The first one drops the old body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep the message back; why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection is of no more use; ``reason`` is for the log."""

    reason: str


Change = (
    AddHeader | InsertHeader | ChangeHeader | ChangeSender | AddRecipient | DeleteRecipient | ReplaceBody | Quarantine
)
Event = Answer | ReplyWith | Negotiated | Progress | Change | Broken
