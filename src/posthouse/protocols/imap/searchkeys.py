"""SEARCH's program: an optional charset, then search keys (RFC 3501 §6.4.4), as a tree of message.query.

Invariants:
  1. Keys nest at most as deep as the cursor allows; the tree has no more nodes than the command has keys.
  2. Texts are decoded here. Those of a charset that is not known here are read as Latin 1, and the program says so:
     whoever runs it answers NO [BADCHARSET], since that NO has consequences (RFC 5182 §2.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

from posthouse.message.dates import parse_search_date
from posthouse.message.query import (
    SAVED,
    All,
    And,
    Before,
    Body,
    EmailId,
    Fuzzy,
    HasFlag,
    Header,
    Larger,
    ModSeq,
    Not,
    Older,
    On,
    Or,
    Query,
    SavedBefore,
    SavedOn,
    SavedSince,
    SentBefore,
    SentOn,
    SentSince,
    SequenceSet,
    Since,
    Smaller,
    Text,
    UidSet,
    Younger,
)
from posthouse.protocols.imap.cursor import UID_REQUIRED, UIDONLY, UTF8, BadCommandError, Cursor, syntax_error
from posthouse.protocols.imap.render import Completion, no
from posthouse.protocols.imap.sequence import parse_sequence_set

CHARSETS: Final = {
    b"US-ASCII": "utf-8",  # clients that say so and send UTF-8 mean UTF-8
    b"UTF-8": "utf-8",
    b"ISO-8859-1": "latin-1",
    b"ISO-8859-15": "iso8859-15",
    b"WINDOWS-1252": "cp1252",
    b"KOI8-R": "koi8-r",
    b"ISO-2022-JP": "iso2022-jp",
    b"GB18030": "gb18030",
    b"BIG5": "big5",
}
BAD_CHARSET: Final[Completion] = no("Unknown charset", f"BADCHARSET ({b' '.join(CHARSETS).decode()})")

_SEEN, _RECENT = HasFlag("\\Seen"), HasFlag("\\Recent")
SIMPLE_KEYS: Final[dict[bytes, Query]] = {
    b"ALL": All(),
    b"ANSWERED": HasFlag("\\Answered"),
    b"DELETED": HasFlag("\\Deleted"),
    b"DRAFT": HasFlag("\\Draft"),
    b"FLAGGED": HasFlag("\\Flagged"),
    b"NEW": And((_RECENT, Not(_SEEN))),
    b"OLD": Not(_RECENT),
    b"RECENT": _RECENT,
    b"SAVEDATESUPPORTED": All(),
    b"SEEN": _SEEN,
    b"UNANSWERED": Not(HasFlag("\\Answered")),
    b"UNDELETED": Not(HasFlag("\\Deleted")),
    b"UNDRAFT": Not(HasFlag("\\Draft")),
    b"UNFLAGGED": Not(HasFlag("\\Flagged")),
    b"UNSEEN": Not(_SEEN),
}
DATE_KEYS: Final[dict[bytes, Callable[[date], Query]]] = {
    b"BEFORE": Before,
    b"ON": On,
    b"SINCE": Since,
    b"SENTBEFORE": SentBefore,
    b"SENTON": SentOn,
    b"SENTSINCE": SentSince,
    b"SAVEDBEFORE": SavedBefore,
    b"SAVEDON": SavedOn,
    b"SAVEDSINCE": SavedSince,
}
SIZE_KEYS: Final[dict[bytes, Callable[[int], Query]]] = {b"LARGER": Larger, b"SMALLER": Smaller}
# RFC 8474 §6; no message is in a thread here.
ID_KEYS: Final[dict[bytes, Callable[[str], Query]]] = {b"EMAILID": EmailId, b"THREADID": lambda _: Not(All())}
AGE_KEYS: Final[dict[bytes, Callable[[int], Query]]] = {b"OLDER": Older, b"YOUNGER": Younger}
TEXT_KEYS: Final[dict[bytes, Callable[[str], Query]]] = {
    b"BCC": lambda text: Header("Bcc", text),
    b"BODY": Body,
    b"CC": lambda text: Header("Cc", text),
    b"FROM": lambda text: Header("From", text),
    b"SUBJECT": lambda text: Header("Subject", text),
    b"TEXT": Text,
    b"TO": lambda text: Header("To", text),
}


@dataclass(frozen=True, slots=True)
class Program:
    """What to search for; where the charset is not known here, the texts in it are not what was meant."""

    query: Query
    is_charset_known: bool = True


def parse_search(cursor: Cursor) -> Program:
    """``[CHARSET name] key *(SP key)``, all of which must hold."""
    if cursor.data[cursor.position : cursor.position + 8].upper() != b"CHARSET ":
        return Program(_SearchParser(cursor, "utf-8").conjunction())
    if UTF8 in cursor.enabled:
        raise syntax_error("Everything is in UTF-8, no CHARSET may be given")  # RFC 6855 §3
    cursor.position += 8
    return parse_charset_and_keys(cursor)


def parse_charset_and_keys(cursor: Cursor) -> Program:
    """``charset SP key *(SP key)``, as SORT and THREAD have it (RFC 5256 §5)."""
    codec = CHARSETS.get(cursor.astring().upper())
    cursor.space()
    return Program(_SearchParser(cursor, codec or "latin-1").conjunction(), codec is not None)


def _date(cursor: Cursor) -> date:
    """``1-Feb-1994``, quoted or not."""
    day = parse_search_date(cursor.astring().decode("latin-1"))
    if day is None:
        raise syntax_error("Invalid date")
    return day


def _seconds(cursor: Cursor) -> int:
    seconds = cursor.number()
    if not seconds:
        raise syntax_error("Expected a number of seconds")
    return seconds


class _SearchParser:
    """The keys of one SEARCH."""

    __slots__ = ("_charset", "_cursor")

    def __init__(self, cursor: Cursor, charset: str) -> None:
        self._cursor = cursor
        self._charset = charset

    def conjunction(self) -> Query:
        """Keys with spaces between them."""
        keys = [self._key()]
        while self._cursor.skip(b" "):
            keys.append(self._key())
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def _key(self) -> Query:
        cursor = self._cursor
        with cursor.deeper():
            if cursor.skip(b"("):
                inner = self.conjunction()
                cursor.expect(b")")
                return inner
            if cursor.data[cursor.position : cursor.position + 1] in b"0123456789*$" and not cursor.at_end():
                ranges = parse_sequence_set(cursor)
                if UIDONLY in cursor.enabled and ranges != SAVED:
                    raise BadCommandError(UID_REQUIRED)
                return SequenceSet(ranges)
            name = cursor.keyword()
            simple = SIMPLE_KEYS.get(name)
            return self._key_with_arguments(name) if simple is None else simple

    def _key_with_arguments(self, name: bytes) -> Query:
        cursor = self._cursor
        cursor.space()
        if name == b"NOT":
            return Not(self._key())
        if name == b"FUZZY":
            return Fuzzy(self._key())
        if name == b"OR":
            first = self._key()
            cursor.space()
            return Or(first, self._key())
        if name in TEXT_KEYS:
            return TEXT_KEYS[name](self._text())
        if name in DATE_KEYS:
            return DATE_KEYS[name](_date(cursor))
        if name in SIZE_KEYS:
            return SIZE_KEYS[name](cursor.modseq())
        if name in ID_KEYS:
            return ID_KEYS[name](cursor.astring().decode("latin-1"))
        if name in AGE_KEYS:
            return AGE_KEYS[name](_seconds(cursor))
        return self._other_key(name)

    def _other_key(self, name: bytes) -> Query:
        cursor = self._cursor
        if name == b"UID":
            return UidSet(parse_sequence_set(cursor))
        if name == b"HEADER":
            field = cursor.astring().decode("latin-1")
            cursor.space()
            return Header(field, self._text())
        if name == b"MODSEQ":
            if cursor.looking_at(b'"'):
                # RFC 7162 §3.1.5: the sequences of one flag; whoever has one for the whole message goes by that.
                cursor.string()
                cursor.space()
                if cursor.keyword() not in {b"ALL", b"PRIV", b"SHARED"}:
                    raise syntax_error("Unknown entry type")
                cursor.space()
            return ModSeq(cursor.modseq())
        if name in {b"KEYWORD", b"UNKEYWORD"}:
            flag = HasFlag(cursor.atom().decode("ascii"))
            return flag if name == b"KEYWORD" else Not(flag)
        raise syntax_error("Unknown search key")

    def _text(self) -> str:
        try:
            return self._cursor.astring().decode(self._charset)
        except UnicodeDecodeError:
            raise syntax_error("Search text does not fit its charset") from None
