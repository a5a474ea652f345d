"""The values that the store and its users exchange."""

from dataclasses import dataclass
from datetime import datetime
from enum import Flag, auto

from posthouse.journal.content import Content
from posthouse.message.query import Ranges


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """A mailbox as LIST shows it. ``special_use`` is ``\\Sent`` and the like (RFC 6154), or empty.

    One that is not ``selectable`` exists only as the parent of others, or only as a subscription.
    """

    name: str
    special_use: str = ""
    subscribed: bool = False
    selectable: bool = True
    has_children: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """The numbers of STATUS (RFC 3501 §6.3.10). ``size_bytes`` counts as much as is known of CRLF forms."""

    messages: int
    recent: int
    uidnext: int
    uidvalidity: int
    unseen: int
    size_bytes: int
    modseq: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    unsized: int = 0
    """How many messages have a size that is not known yet; they count with that of their files."""
    guid: str = ""
    """What the mailbox is known by whatever its name, and no other one."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may have and has; a limit of 0 is none."""

    limit_bytes: int
    limit_messages: int
    used_bytes: int
    used_messages: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be appended; ``internal_date`` None is now."""

    content: Content
    flags: frozenset[str]
    internal_date: datetime | None


@dataclass(frozen=True, slots=True)
class Appended:
    """What APPENDUID says (RFC 4315 §3), a UID for each message."""

    uidvalidity: int
    uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """What COPYUID says (RFC 4315 §3); the n-th source became the n-th target."""

    uidvalidity: int
    source_uids: tuple[int, ...]
    target_uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What others did to a mailbox, in the order in which a client must hear of it.

    ``expunged``: sequence numbers, each valid after the ones before it (the highest comes first).
    ``vanished``: their UIDs, ascending. ``exists`` and ``recent``: the new counts, where they changed. ``flags``:
    sequence number, UID and all flags, numbered as after the expunges; ``modseqs`` has the modification sequence
    of each of these.
    """

    expunged: tuple[int, ...] = ()
    vanished: tuple[int, ...] = ()
    exists: int | None = None
    recent: int | None = None
    flags: tuple[tuple[int, int, frozenset[str]], ...] = ()
    modseqs: tuple[int, ...] = ()


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Stored:
    """What STORE did: UID, all flags and modification sequence of each message that has what was asked for.

    ``modified``: UIDs of those that had changed in the meantime and were left alone (RFC 7162 §3.1.3).
    """

    messages: tuple[tuple[int, frozenset[str], int], ...]
    modified: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Missed:
    """What a client missed that knew a mailbox as of some modification sequence (RFC 7162 §3.2).

    ``changed``: UIDs in the view, ascending, and their modification sequences. ``vanished``: ranges of UIDs, among
    which may be some that never were.
    """

    changed: tuple[tuple[int, int], ...]
    vanished: Ranges


class Want(Flag):
    """What of a message will be touched, so that only that is loaded. Other things still work, slower.

    FIELDS: of its header section, no more than the fields that are named beside it.
    """

    FLAGS = auto()
    MODSEQ = auto()
    DATE = auto()
    SIZE = auto()
    SAVED = auto()
    FIELDS = auto()
    ENVELOPE = auto()
    STRUCTURE = auto()
    HEADER = auto()
    BODY = auto()
    EMAILID = auto()
    PREVIEW = auto()
