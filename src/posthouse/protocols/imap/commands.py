"""What a client may say, one frozen value each.

Every command carries its ``tag``. Mailbox names are decoded; sets are ranges (see sequence.py); flags are
spelled as in SYSTEM_FLAGS where they are those.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from posthouse.message.query import Query, Ranges


@dataclass(frozen=True, slots=True)
class Command:
    """Any command; its completion carries the same tag."""

    tag: bytes


# RFC 3501 §6.1: any state.


@dataclass(frozen=True, slots=True)
class Capability(Command):
    """CAPABILITY (RFC 3501 §6.1.1)."""


@dataclass(frozen=True, slots=True)
class Noop(Command):
    """NOOP (RFC 3501 §6.1.2)."""


@dataclass(frozen=True, slots=True)
class Logout(Command):
    """LOGOUT (RFC 3501 §6.1.3)."""


@dataclass(frozen=True, slots=True)
class Id(Command):
    """ID (RFC 2971): what the client says of itself."""

    fields: tuple[tuple[bytes, bytes | None], ...]


# RFC 3501 §6.2: not authenticated.


@dataclass(frozen=True, slots=True)
class StartTls(Command):
    """STARTTLS (RFC 3501 §6.2.1)."""


@dataclass(frozen=True, slots=True)
class Authenticate(Command):
    """AUTHENTICATE (RFC 3501 §6.2.2); ``initial`` is decoded (SASL-IR, RFC 4959), None where there was none."""

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class Login(Command):
    """LOGIN (RFC 3501 §6.2.3)."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(tag={self.tag!r}, user={self.user!r})"


# RFC 3501 §6.3: authenticated.


@dataclass(frozen=True, slots=True)
class Resync:
    """QRESYNC's parameter (RFC 7162 §3.2.5): what the client knows; ``uids`` None is all."""

    uidvalidity: int
    modseq: int
    uids: Ranges | None


@dataclass(frozen=True, slots=True)
class Select(Command):
    """SELECT and EXAMINE (RFC 3501 §6.3.1, §6.3.2)."""

    mailbox: str
    read_only: bool
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create(Command):
    """CREATE (RFC 3501 §6.3.3), with USE (RFC 6154 §3)."""

    mailbox: str
    special_use: str = ""


@dataclass(frozen=True, slots=True)
class Delete(Command):
    """DELETE (RFC 3501 §6.3.4)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename(Command):
    """RENAME (RFC 3501 §6.3.5)."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Subscribe(Command):
    """SUBSCRIBE and UNSUBSCRIBE (RFC 3501 §6.3.6, §6.3.7)."""

    mailbox: str
    subscribed: bool


@dataclass(frozen=True, slots=True)
class List(Command):
    """LIST and LSUB (RFC 3501 §6.3.8, §6.3.9).

    Extended (RFC 5258): ``selection`` and ``returns`` are options in upper case, ``status`` the items of RETURN
    (STATUS (…)), ``metadata`` the entries of RETURN (METADATA (…)).
    """

    reference: str
    patterns: tuple[str, ...]
    subscribed_only: bool
    is_extended: bool = False
    selection: frozenset[bytes] = frozenset()
    returns: frozenset[bytes] = frozenset()
    status: tuple[bytes, ...] = ()
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status(Command):
    """STATUS (RFC 3501 §6.3.10); ``items`` in upper case, in the order asked for."""

    mailbox: str
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GetQuota(Command):
    """GETQUOTA (RFC 9208 §4.1.1)."""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot(Command):
    """GETQUOTAROOT (RFC 9208 §4.1.2)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Unauthenticate(Command):
    """UNAUTHENTICATE (RFC 8437)."""


@dataclass(frozen=True, slots=True)
class Compress(Command):
    """COMPRESS DEFLATE (RFC 4978)."""


@dataclass(frozen=True, slots=True)
class Namespace(Command):
    """NAMESPACE (RFC 2342)."""


@dataclass(frozen=True, slots=True)
class Enable(Command):
    """ENABLE (RFC 5161); ``capabilities`` in upper case."""

    capabilities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Idle(Command):
    """IDLE (RFC 2177)."""


# RFC 3501 §6.4: selected. ``uid``: the command came as UID FETCH and so on, and the set holds UIDs.


@dataclass(frozen=True, slots=True)
class Check(Command):
    """CHECK (RFC 3501 §6.4.1)."""


@dataclass(frozen=True, slots=True)
class Close(Command):
    """CLOSE (RFC 3501 §6.4.2), or UNSELECT (RFC 3691) where nothing is to be expunged."""

    expunge: bool


@dataclass(frozen=True, slots=True)
class Expunge(Command):
    """EXPUNGE (RFC 3501 §6.4.3), or UID EXPUNGE (RFC 4315 §2.1) where there is a set."""

    uids: Ranges | None = None


@dataclass(frozen=True, slots=True)
class ReturnOptions:
    """What RETURN asks for, in upper case (RFC 4731 §3.1).

    ``partial``: the first and the last place in the result, in either order; counted from its end where they are
    negative (RFC 9394 §3.1).
    """

    names: frozenset[bytes]
    partial: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Search(Command):
    """SEARCH (RFC 3501 §6.4.4); without ``returns`` the answer has its old form.

    A ``query`` whose charset is not known here can't be answered.
    """

    uid: bool
    query: Query
    returns: ReturnOptions | None = None
    is_charset_known: bool = True


@dataclass(frozen=True, slots=True)
class Sort(Search):
    """SORT (RFC 5256 §3); ``criteria`` are names in upper case, each reversed or not."""

    criteria: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Thread(Search):
    """THREAD (RFC 5256 §3) by an algorithm in upper case."""

    algorithm: str = ""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A data item of FETCH that needs no more than its name, in upper case: ``FLAGS``, ``ENVELOPE``…"""

    name: str


@dataclass(frozen=True, slots=True)
class Section:
    """A ``BODY[…]`` of FETCH, or an ``RFC822`` item, which is the same under another name.

    ``part`` is ``1.2`` or empty for the whole message; ``text`` is empty (the part itself), ``HEADER``,
    ``HEADER.FIELDS``, ``HEADER.FIELDS.NOT``, ``TEXT`` or ``MIME``; ``fields`` are names in lower case. ``start``
    and ``length`` are the partial's, ``length`` None for all. ``label`` is the item's name in the response.
    """

    part: str
    text: str
    fields: frozenset[bytes]
    start: int
    length: int | None
    peek: bool
    label: bytes


@dataclass(frozen=True, slots=True)
class Binary:
    """A ``BINARY[…]`` or, if ``size``, a ``BINARY.SIZE[…]`` of FETCH (RFC 3516 §4.2, §4.3); else as Section."""

    part: str
    start: int
    length: int | None
    peek: bool
    size: bool
    label: bytes


FetchItem = Attribute | Section | Binary


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """FETCH (RFC 3501 §6.4.5), only what changed since then where that is given (RFC 7162 §3.1.4.1, §3.2.6).

    ``partial``: of what is left, only these places, as in ReturnOptions (RFC 9394).
    """

    uid: bool
    ranges: Ranges
    items: tuple[FetchItem, ...]
    changed_since: int | None = None
    vanished: bool = False
    partial: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Store(Command):
    """STORE (RFC 3501 §6.4.6), where nothing changed since then if that is given (RFC 7162 §3.1.3)."""

    uid: bool
    ranges: Ranges
    mode: Literal["add", "remove", "replace"]
    silent: bool
    flags: frozenset[str]
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """COPY (RFC 3501 §6.4.7)."""

    uid: bool
    ranges: Ranges
    mailbox: str


@dataclass(frozen=True, slots=True)
class Move(Command):
    """MOVE (RFC 6851)."""

    uid: bool
    ranges: Ranges
    mailbox: str


# What has its data behind it: see events.py.


@dataclass(frozen=True, slots=True)
class Replaced:
    """The message that REPLACE replaces: a sequence number, or a UID; may be STAR."""

    number: int
    uid: bool


@dataclass(frozen=True, slots=True)
class AppendStart(Command):
    """APPEND up to its first literal (RFC 3501 §6.3.11), or REPLACE (RFC 8508).

    What follows comes once it is accepted. ``size`` is the literal's, None where the first part is none (RFC 4469).
    """

    mailbox: str
    flags: frozenset[str]
    date: datetime | None
    size: int | None
    replaced: Replaced | None = None
