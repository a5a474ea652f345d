"""``RETURN (…)`` of SEARCH and SORT: what of the result the client wants.

RFC 4731 §3.1, RFC 5182, RFC 5267 §4, RFC 6203 §4, RFC 9394.
"""

import re
from typing import Final

from posthouse.protocols.imap.commands import ReturnOptions
from posthouse.protocols.imap.cursor import MAX_NUMBER, Cursor, syntax_error

OPTIONS: Final = frozenset(
    {b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"PARTIAL", b"RELEVANCY", b"CONTEXT", b"UPDATE"}
)

_range = re.compile(rb"(-?)([1-9]\d{0,9}):\1([1-9]\d{0,9})").match


def parse_return(cursor: Cursor) -> ReturnOptions | None:
    """``RETURN (option *(SP option)) SP``, if that is here; an empty list is ``ALL``."""
    if cursor.data[cursor.position : cursor.position + 7].upper() != b"RETURN ":
        return None
    cursor.position += 7
    cursor.expect(b"(")
    names: list[bytes] = []
    partial = None
    while not cursor.skip(b")"):
        if names:
            cursor.space()
        name = cursor.keyword()
        if name not in OPTIONS:
            raise syntax_error("Unknown RETURN option")
        if name == b"PARTIAL":
            cursor.space()
            partial = parse_partial_range(cursor)
        names.append(name)
    cursor.space()
    # RFC 9394 §3.1: one PARTIAL, one ALL, or neither.
    if names.count(b"PARTIAL") + names.count(b"ALL") > 1:
        raise syntax_error("ALL and PARTIAL exclude each other")
    return ReturnOptions(frozenset(names or (b"ALL",)), partial)


def parse_partial_range(cursor: Cursor) -> tuple[int, int]:
    """``1:500`` from the beginning, ``-1:-500`` from the end."""
    match = _range(cursor.data, cursor.position)
    if match is None:
        raise syntax_error("Expected a range")
    cursor.position = match.end()
    first, last = int(match.group(2)), int(match.group(3))
    if max(first, last) > MAX_NUMBER:
        raise syntax_error("Number too large")
    return (-first, -last) if match.group(1) else (first, last)
