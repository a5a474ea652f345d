"""ESEARCH, the command that searches many mailboxes (RFC 7377 §2), and how they are named there (RFC 5465 §6)."""

from dataclasses import dataclass
from typing import Final

from posthouse.protocols.imap.commands import Command, Search
from posthouse.protocols.imap.cursor import Cursor, syntax_error
from posthouse.protocols.imap.searchkeys import parse_search
from posthouse.protocols.imap.searchreturn import parse_return
from posthouse.protocols.imap.sorting import check_relevancy

SELECTED: Final = b"SELECTED"
MANY: Final = frozenset({SELECTED, b"INBOXES", b"PERSONAL", b"SUBSCRIBED"})
NAMED: Final = frozenset({b"SUBTREE", b"SUBTREE-ONE", b"MAILBOXES"})


@dataclass(frozen=True, slots=True)
class Source:
    """Some mailboxes: those of a ``kind``, in upper case, or where that is one of ``NAMED`` these ones and theirs."""

    kind: bytes
    mailboxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiSearch(Search):
    """ESEARCH (RFC 7377 §2.1); its results are UIDs."""

    sources: tuple[Source, ...] = ()


def parse_multisearch(tag: bytes, cursor: Cursor) -> Command:
    """``[IN (source *(SP source))] [RETURN (…)] key *(SP key)``; without sources the selected mailbox."""
    cursor.space()
    sources: tuple[Source, ...] = (Source(SELECTED),)
    if cursor.data[cursor.position : cursor.position + 4].upper() == b"IN (":
        cursor.position += 4
        sources = _sources(cursor)
        cursor.space()
    returns = parse_return(cursor)
    program = parse_search(cursor)
    check_relevancy(returns, program.query)
    if returns is not None and b"SAVE" in returns.names and sources != (Source(SELECTED),):
        raise syntax_error("SAVE is for the selected mailbox alone")  # RFC 7377 §2
    return MultiSearch(tag, True, program.query, returns, program.is_charset_known, sources=sources)


def _sources(cursor: Cursor) -> tuple[Source, ...]:
    found = [_source(cursor)]
    while not cursor.skip(b")"):
        cursor.space()
        if cursor.looking_at(b"("):
            raise syntax_error("Unknown scope option")
        found.append(_source(cursor))
    return tuple(found)


def _source(cursor: Cursor) -> Source:
    kind = cursor.keyword()
    if kind in MANY:
        return Source(kind)
    if kind not in NAMED:
        raise syntax_error("Unknown source of mailboxes")
    cursor.space()
    if not cursor.skip(b"("):
        return Source(kind, (cursor.mailbox(),))
    names = [cursor.mailbox()]
    while not cursor.skip(b")"):
        cursor.space()
        names.append(cursor.mailbox())
    return Source(kind, tuple(names))
