"""FETCH's data items (RFC 3501 §6.4.5, §9: fetch-att; RFC 3516).

Invariant: a label is made from what was parsed, never echoed; field names in it are atoms or quoted.
"""

import re
from typing import Final

from posthouse.protocols.imap.commands import Attribute, Binary, FetchItem, Section
from posthouse.protocols.imap.cursor import IMAP4REV2, MAX_MODSEQ, MAX_NUMBER, Cursor, syntax_error
from posthouse.protocols.imap.render import astring

ATTRIBUTES: Final = frozenset(
    {
        b"FLAGS",
        b"INTERNALDATE",
        b"RFC822.SIZE",
        b"ENVELOPE",
        b"BODY",
        b"BODYSTRUCTURE",
        b"UID",
        b"MODSEQ",
        b"SAVEDATE",
        b"EMAILID",
        b"THREADID",
        b"PREVIEW",
    }
)
BINARY: Final = frozenset({b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE"})
_FLAGS, _DATE = Attribute("FLAGS"), Attribute("INTERNALDATE")
_SIZE, _ENVELOPE = Attribute("RFC822.SIZE"), Attribute("ENVELOPE")
MACROS: Final[dict[bytes, tuple[FetchItem, ...]]] = {
    b"FAST": (_FLAGS, _DATE, _SIZE),
    b"ALL": (_FLAGS, _DATE, _SIZE, _ENVELOPE),
    b"FULL": (_FLAGS, _DATE, _SIZE, _ENVELOPE, Attribute("BODY")),
}
RFC822_ITEMS: Final = {
    b"RFC822": Section("", "", frozenset(), 0, None, False, b"RFC822"),
    b"RFC822.HEADER": Section("", "HEADER", frozenset(), 0, None, True, b"RFC822.HEADER"),
    b"RFC822.TEXT": Section("", "TEXT", frozenset(), 0, None, False, b"RFC822.TEXT"),
}

_name = re.compile(rb"[A-Za-z0-9.]+").match
_part = re.compile(rb"[1-9]\d{0,8}(?:\.[1-9]\d{0,8})*").match
_section_text = re.compile(rb"HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME", re.IGNORECASE).match
_partial = re.compile(rb"<(\d{1,19})\.(\d{1,19})>").match


def parse_fetch_items(cursor: Cursor) -> tuple[FetchItem, ...]:
    """A macro, one item, or a list of items in parentheses; each item once."""
    if not cursor.skip(b"("):
        name = _item_name(cursor)
        return MACROS.get(name) or (_item(cursor, name),)
    items = [_item(cursor, _item_name(cursor))]
    while cursor.skip(b" "):
        items.append(_item(cursor, _item_name(cursor)))
    cursor.expect(b")")
    return tuple(dict.fromkeys(items))


def _item_name(cursor: Cursor) -> bytes:
    match = _name(cursor.data, cursor.position)
    if match is None:
        raise syntax_error("Expected a FETCH item")
    cursor.position = match.end()
    return match.group().upper()


def _item(cursor: Cursor, name: bytes) -> FetchItem:
    if cursor.looking_at(b"[") and name in {b"BODY", b"BODY.PEEK"}:
        return _section(cursor, peek=name == b"BODY.PEEK")
    if name in BINARY:
        return _binary(cursor, name)
    if name == b"PREVIEW" and cursor.data[cursor.position : cursor.position + 7].upper() == b" (LAZY)":
        cursor.position += 7
        return Attribute("PREVIEW (LAZY)")
    if name in ATTRIBUTES:
        return Attribute(name.decode("ascii"))
    if name in RFC822_ITEMS:
        return RFC822_ITEMS[name]
    raise syntax_error("Unknown FETCH item")


def _binary(cursor: Cursor, name: bytes) -> Binary:
    """RFC 3516 §7: section-binary has part numbers only, and a size has no partial."""
    cursor.expect(b"[")
    match = _part(cursor.data, cursor.position)
    part = match.group() if match else b""
    cursor.position += len(part)
    cursor.expect(b"]")
    if name == b"BINARY.SIZE":
        return Binary(part.decode("ascii"), 0, None, True, True, b"BINARY.SIZE[%b]" % part)
    start, length = _parse_partial(cursor)
    label = b"BINARY[%b]" % part
    if length is not None:
        label += b"<%d>" % start
    return Binary(part.decode("ascii"), start, length, name == b"BINARY.PEEK", False, label)


def _section(cursor: Cursor, *, peek: bool) -> Section:
    cursor.expect(b"[")
    part, text = _section_spec(cursor)
    specification = part + b"." * bool(part and text) + text
    names: list[bytes] = []
    if text.startswith(b"HEADER.FIELDS"):
        names = _field_names(cursor)
        if not all(name.isascii() and name.decode("ascii").isprintable() for name in names):
            raise syntax_error("Invalid header field name")
        specification += b" (%b)" % b" ".join(astring(name) for name in names)
    cursor.expect(b"]")
    start, length = _parse_partial(cursor)
    label = b"BODY[%b]" % specification
    if length is not None:
        label += b"<%d>" % start
    fields = frozenset(name.lower() for name in names)
    return Section(part.decode("ascii"), text.decode("ascii"), fields, start, length, peek, label)


def _section_spec(cursor: Cursor) -> tuple[bytes, bytes]:
    part = b""
    match = _part(cursor.data, cursor.position)
    if match is not None:
        part = match.group()
        cursor.position = match.end()
        if not cursor.skip(b"."):
            return part, b""
    match = _section_text(cursor.data, cursor.position)
    if match is None:
        if part or not cursor.looking_at(b"]"):
            raise syntax_error("Invalid section")
        return part, b""
    cursor.position = match.end()
    text = match.group().upper()
    if text == b"MIME" and not part:
        raise syntax_error("MIME needs a part number")
    return part, text


def _field_names(cursor: Cursor) -> list[bytes]:
    cursor.expect(b" (")
    names = [cursor.astring()]
    while cursor.skip(b" "):
        names.append(cursor.astring())
    cursor.expect(b")")
    return names


def _parse_partial(cursor: Cursor) -> tuple[int, int | None]:
    match = _partial(cursor.data, cursor.position)
    if match is None:
        return 0, None
    cursor.position = match.end()
    start, length = int(match.group(1)), int(match.group(2))
    if not length:
        raise syntax_error("A partial needs at least one octet")
    if max(start, length) > (MAX_MODSEQ if IMAP4REV2 in cursor.enabled else MAX_NUMBER):
        raise syntax_error("Number too large")  # RFC 9051 §9: number64
    return start, length
