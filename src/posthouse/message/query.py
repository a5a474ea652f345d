"""The search tree: what IMAP SEARCH and the webmail's search box ask of the mail store (RFC 3501 §6.4.4).

Invariants:
  1. Trees are frozen and hashable.
  2. Texts are Unicode: whoever builds a tree has decoded the client's charset. Matching ignores case, by RFC 5051.
  3. A range is ``(low, high)`` as the client gave it, in either order, ``STAR`` standing for ``*``; the ranges
     ``SAVED`` stand for the messages that an earlier search kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

STAR = 0
"""``*``: the largest number in use. No message has number 0."""

Ranges = tuple[tuple[int, int], ...]

SAVED: Ranges = ((-1, -1),)
"""``$``: what the last search that was to be kept has found (RFC 5182 §2.1). No message has a negative number."""


def resolve_ranges(ranges: Iterable[tuple[int, int]], largest: int) -> Ranges:
    """The same numbers as ascending, disjoint ranges with ``low <= high``, ``*`` replaced by ``largest``.

    Whether the numbers exist is not asked: ``3:*`` with ``largest`` 2 is ``2:3`` (RFC 3501 §9, seq-range).
    """
    resolved = sorted(
        (low, high) if low <= high else (high, low)
        for low, high in ((first or largest, last or largest) for first, last in ranges)
    )
    merged: list[tuple[int, int]] = []
    for low, high in resolved:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """All of the keys; none at all is every message."""

    keys: tuple["Query", ...]


@dataclass(frozen=True, slots=True)
class Or:
    a: "Query"
    b: "Query"


@dataclass(frozen=True, slots=True)
class Not:
    key: "Query"


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A system flag (``\\Seen``, also ``\\Recent``) or a keyword; keywords compare without regard to case."""

    flag: str


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Message sequence numbers of the view that is searched."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class UidSet:
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Larger:
    """RFC822.SIZE greater than ``size_bytes``."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """RFC822.SIZE less than ``size_bytes``."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModSeq:
    """The modification sequence is at least that."""

    modseq: int


@dataclass(frozen=True, slots=True)
class Before:
    """Internal date earlier than that day; time and zone are disregarded, here and below."""

    date: date


@dataclass(frozen=True, slots=True)
class On:
    date: date


@dataclass(frozen=True, slots=True)
class Since:
    """Internal date on that day or later."""

    date: date


@dataclass(frozen=True, slots=True)
class SavedBefore:
    """Came into its mailbox before that day (RFC 8514 §4.3)."""

    date: date


@dataclass(frozen=True, slots=True)
class SavedOn:
    date: date


@dataclass(frozen=True, slots=True)
class SavedSince:
    date: date


@dataclass(frozen=True, slots=True)
class EmailId:
    """The content has this identifier (RFC 8474 §6)."""

    id: str


@dataclass(frozen=True, slots=True)
class Older:
    """Internal date that many seconds ago, or longer (RFC 5032 §2)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Younger:
    """Internal date not longer ago than that."""

    seconds: int


@dataclass(frozen=True, slots=True)
class SentBefore:
    """``Date:`` header earlier than that day; a message without a readable one matches no Sent key."""

    date: date


@dataclass(frozen=True, slots=True)
class SentOn:
    date: date


@dataclass(frozen=True, slots=True)
class SentSince:
    date: date


@dataclass(frozen=True, slots=True)
class Header:
    """A field of that name contains the text, RFC 2047 words decoded; the empty text: the field is there."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """The body contains the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """The header section or the body contains the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """What matches the key, or nearly (RFC 6203 §3; ``fuzzy`` says how)."""

    key: "Query"


def asks_modseq(key: "Query") -> bool:
    """Whether the tree asks for modification sequences."""
    match key:
        case And(keys):
            return any(map(asks_modseq, keys))
        case Or(a, b):
            return asks_modseq(a) or asks_modseq(b)
        case Not(inner) | Fuzzy(inner):
            return asks_modseq(inner)
        case _:
            return isinstance(key, ModSeq)


Query = (
    All
    | And
    | Or
    | Not
    | HasFlag
    | SequenceSet
    | UidSet
    | Larger
    | Smaller
    | ModSeq
    | Before
    | On
    | Since
    | SavedBefore
    | SavedOn
    | SavedSince
    | EmailId
    | Older
    | Younger
    | SentBefore
    | SentOn
    | SentSince
    | Header
    | Body
    | Text
    | Fuzzy
)
