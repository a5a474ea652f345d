"""LIST with selection and return options (RFC 5258 §6), and STATUS's items.

STATUS of RFC 5819, SPECIAL-USE of RFC 6154, METADATA of RFC 9590, MYRIGHTS of RFC 8440.
"""

from typing import Final

from posthouse.protocols.imap.commands import List
from posthouse.protocols.imap.cursor import Cursor, syntax_error
from posthouse.protocols.imap.metadata import parse_entries

STATUS_ITEMS: Final = frozenset(
    {
        b"APPENDLIMIT",
        b"DELETED",
        b"DELETED-STORAGE",
        b"HIGHESTMODSEQ",
        b"MAILBOXID",
        b"MESSAGES",
        b"RECENT",
        b"SIZE",
        b"UIDNEXT",
        b"UIDVALIDITY",
        b"UNSEEN",
    }
)
SELECTIONS: Final = frozenset({b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"})
RETURNS: Final = frozenset({b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"MYRIGHTS"})
MAX_PATTERNS: Final = 100


def parse_list(tag: bytes, cursor: Cursor) -> List:
    """LIST's arguments, extended or not."""
    cursor.space()
    selection: frozenset[bytes] | None = None
    if cursor.looking_at(b"("):
        selection = _selection(cursor)
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    is_extended = selection is not None or cursor.looking_at(b"(")
    patterns = _patterns(cursor) if cursor.skip(b"(") else (cursor.list_mailbox(),)
    returns: frozenset[bytes] = frozenset()
    status: tuple[bytes, ...] = ()
    metadata: tuple[str, ...] = ()
    if cursor.skip(b" "):
        is_extended = True
        if cursor.keyword() != b"RETURN":
            raise syntax_error("Expected RETURN")
        returns, status, metadata = _returns(cursor)
    selected = selection or frozenset()
    return List(tag, reference, patterns, False, is_extended, selected, returns, status, metadata)


def parse_status_items(cursor: Cursor) -> tuple[bytes, ...]:
    """``(item item …)``, each once."""
    cursor.expect(b"(")
    items = [cursor.keyword()]
    while cursor.skip(b" "):
        items.append(cursor.keyword())
    cursor.expect(b")")
    if not STATUS_ITEMS.issuperset(items):
        raise syntax_error("Unknown STATUS item")
    return tuple(dict.fromkeys(items))


def _selection(cursor: Cursor) -> frozenset[bytes]:
    cursor.expect(b"(")
    options: set[bytes] = set()
    while not cursor.skip(b")"):
        if options:
            cursor.space()
        options.add(cursor.keyword())
    if not options <= SELECTIONS:
        raise syntax_error("Unknown LIST selection option")
    if b"RECURSIVEMATCH" in options and options <= {b"RECURSIVEMATCH", b"REMOTE"}:
        raise syntax_error("RECURSIVEMATCH needs something to match")  # RFC 5258 §3.1
    return frozenset(options)


def _patterns(cursor: Cursor) -> tuple[str, ...]:
    patterns = [cursor.list_mailbox()]
    while cursor.skip(b" "):
        patterns.append(cursor.list_mailbox())
    cursor.expect(b")")
    if len(patterns) > MAX_PATTERNS:
        raise syntax_error("Too many patterns")
    return tuple(patterns)


def _returns(cursor: Cursor) -> tuple[frozenset[bytes], tuple[bytes, ...], tuple[str, ...]]:
    cursor.expect(b" (")
    options: set[bytes] = set()
    status: tuple[bytes, ...] = ()
    metadata: tuple[str, ...] = ()
    is_first = True
    while not cursor.skip(b")"):
        if not is_first:
            cursor.space()
        is_first = False
        option = cursor.keyword()
        if option == b"STATUS":
            cursor.space()
            status = parse_status_items(cursor)
        elif option == b"METADATA":
            cursor.space()
            metadata = parse_entries(cursor)
        elif option in RETURNS:
            options.add(option)
        else:
            raise syntax_error("Unknown LIST return option")
    return frozenset(options), status, metadata
