"""GETMETADATA and SETMETADATA, and the entries that LIST can return (RFC 5464 §5; RFC 9590 §5)."""

import re
from dataclasses import dataclass
from typing import Final

from posthouse.protocols.imap.commands import Command
from posthouse.protocols.imap.cursor import Cursor, syntax_error

INFINITY: Final = -1
DEPTHS: Final = {b"0": 0, b"1": 1, b"INFINITY": INFINITY}
MAX_NAMED: Final = 100
"""How many entries one command may name."""

_entry = re.compile(r"/(?:private|shared)(?:/[^/*%\x00-\x19\x7f-\U0010ffff]+)+").fullmatch
_vendor = re.compile(r"/[a-z]+/vendor(?:/[^/]+)?").fullmatch


@dataclass(frozen=True, slots=True)
class GetMetadata(Command):
    """GETMETADATA (RFC 5464 §4.2); of the server where ``mailbox`` is empty.

    ``depth``: so many levels below each entry too, INFINITY for all; ``max_size``: larger values are left out.
    """

    mailbox: str
    entries: tuple[str, ...]
    depth: int = 0
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata(Command):
    """SETMETADATA (RFC 5464 §4.3); what has the value None is to go."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...]


def parse_get_metadata(tag: bytes, cursor: Cursor) -> GetMetadata:
    """The options stand before the mailbox in the grammar, and behind it in the examples (RFC 5464 §4.2.1, §5)."""
    cursor.space()
    depth, max_size = 0, None
    if cursor.looking_at(b"("):
        depth, max_size = _options(cursor)
        cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    if re.match(rb"\((?:DEPTH|MAXSIZE) ", cursor.data[cursor.position : cursor.position + 9], re.IGNORECASE):
        depth, max_size = _options(cursor)
        cursor.space()
    entries = parse_entries(cursor)
    while cursor.skip(b" "):  # RFC 5464 §4.4.1 has an example without the list's parentheses
        entries += (_name(cursor),)
    return GetMetadata(tag, mailbox, _few(entries), depth, max_size)


def parse_set_metadata(tag: bytes, cursor: Cursor) -> SetMetadata:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.expect(b" (")
    values: dict[str, bytes | None] = {}
    while True:
        name = _name(cursor)
        if _vendor(name):
            raise syntax_error("Vendors' entries have at least four parts")
        cursor.space()
        values[name] = cursor.nstring(binary=True)
        if cursor.skip(b")"):
            break
        cursor.space()
    _few(tuple(values))
    return SetMetadata(tag, mailbox, tuple(values.items()))


def parse_entries(cursor: Cursor) -> tuple[str, ...]:
    """An entry or a list of them; each once, in lower case: their case means nothing (RFC 5464 §3.2)."""
    if not cursor.skip(b"("):
        return (_name(cursor),)
    names = [_name(cursor)]
    while cursor.skip(b" "):
        names.append(_name(cursor))
    cursor.expect(b")")
    return _few(tuple(names))


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > MAX_NAMED:
        raise syntax_error("Too many entries")
    return tuple(dict.fromkeys(names))


def _name(cursor: Cursor) -> str:
    name = cursor.text().lower()
    if not _entry(name):
        raise syntax_error("Not an entry's name")
    return name


def _options(cursor: Cursor) -> tuple[int, int | None]:
    cursor.expect(b"(")
    depth, max_size = 0, None
    while True:
        option = cursor.keyword()
        cursor.space()
        if option == b"MAXSIZE":
            max_size = cursor.number()
        elif option == b"DEPTH" and (value := cursor.keyword()) in DEPTHS:
            depth = DEPTHS[value]
        else:
            raise syntax_error("Unknown GETMETADATA option")
        if cursor.skip(b")"):
            return depth, max_size
        cursor.space()
