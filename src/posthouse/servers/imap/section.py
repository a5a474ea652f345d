"""BODY[…] and BINARY[…] of FETCH: which octets of a message a section means (RFC 3501 §6.4.5, RFC 3516 §4.2).

Runs in the store's threads. What is larger than STREAM_BYTES is not loaded: a Stretch stands for it.
"""

from dataclasses import dataclass
from typing import Final

from posthouse.message import headers
from posthouse.message.transfer import decode
from posthouse.protocols.imap.commands import Binary, Section
from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.render import NIL, literal, literal8, no
from posthouse.store.fetch import Message
from posthouse.store.model import Want

STREAM_BYTES: Final = 1 << 20
DECODED_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """Octets of a message that are to be sent in slices, as a literal."""

    uid: int
    start: int
    end: int


def section_want(section: Section) -> Want:
    """What of the message the section will touch."""
    if section.part:
        return Want.STRUCTURE | Want.BODY
    if section.text.startswith("HEADER"):
        return Want.FIELDS if section.text == "HEADER.FIELDS" else Want.HEADER
    return Want.HEADER | Want.BODY if section.text else Want.BODY


def section_value(message: Message, section: Section) -> bytes | Stretch:
    """The section as a literal or a Stretch; NIL where the message has no such part."""
    if section.text == "HEADER.FIELDS" and not section.part:
        return literal(partial(message.header_fields(section.fields), section))
    if section.text.startswith("HEADER"):
        header = _header(message, section)
        return NIL if header is None else literal(partial(_selected(header, section), section))
    bounds = _bounds(message, section)
    if bounds is None:
        return NIL
    start = min(bounds[0] + section.start, bounds[1])
    end = bounds[1] if section.length is None else min(start + section.length, bounds[1])
    if end - start > STREAM_BYTES:
        return Stretch(message.uid, start, end)
    return literal(message.body(start, end) if end > start else b"")


def section_octets(message: Message, section: Section, start: int, end: int) -> bytes | None:
    """A slice of what the section means; None where the message has no such part."""
    if section.text.startswith("HEADER"):
        header = _header(message, section)
        return None if header is None else _selected(header, section)[start:end]
    bounds = _bounds(message, section)
    if bounds is None:
        return None
    return message.body(min(bounds[0] + start, bounds[1]), min(bounds[0] + end, bounds[1]))


def binary_value(message: Message, binary: Binary) -> bytes:
    """The part without its transfer encoding as a literal, or its size; NIL where there is no such part.

    Raises BadCommandError where the encoding is not known, or the part too large to be decoded in memory.
    """
    data = _decoded(message, binary.part)
    if binary.size:
        return b"%d" % len(data or b"")
    if data is None:
        return NIL
    return literal8(data[binary.start : None if binary.length is None else binary.start + binary.length])


def _decoded(message: Message, number: str) -> bytes | None:
    start, end, encoding = 0, message.size, b""
    if number:
        part = message.part().find(number)
        if part is None:
            return None
        start, end, encoding = part.body_start, part.body_end, part.encoding or b""
    if end - start > DECODED_BYTES:
        raise BadCommandError(no(f"Parts are decoded up to {DECODED_BYTES} octets", "LIMIT"))
    data = decode(message.body(start, end), encoding)
    if data is None:
        raise BadCommandError(no("A part has a transfer encoding that is not known here", "UNKNOWN-CTE"))
    return data


def _header(message: Message, section: Section) -> bytes | None:
    """The header section of the message, or of the message that a part is."""
    if not section.part:
        return message.header()
    part = message.part().find(section.part)
    if part is None or part.message is None:
        return None
    return message.body(part.message.header_start, part.message.body_start)


def _selected(header: bytes, section: Section) -> bytes:
    """The fields that HEADER.FIELDS or HEADER.FIELDS.NOT asks for, and the blank line (RFC 3501 §6.4.5)."""
    if section.text == "HEADER":
        return header
    if section.text == "HEADER.FIELDS":
        return headers.only(header, section.fields)
    return headers.without(header, section.fields)


def partial(data: bytes, section: Section) -> bytes:
    if section.length is None:
        return data
    return data[section.start : section.start + section.length]


def _bounds(message: Message, section: Section) -> tuple[int, int] | None:
    """Where the section's octets are in the message."""
    if not section.part:
        return len(message.header()) if section.text else 0, message.size
    part = message.part().find(section.part)
    if part is None:
        return None
    if section.text == "MIME":
        return part.header_start, part.body_start
    if section.text == "TEXT":
        return None if part.message is None else (part.message.body_start, part.message.body_end)
    return part.body_start, part.body_end
