"""What of a message is searched as text (RFC 3501 §6.4.4: BODY, TEXT).

Header fields as ``Name: value`` with their RFC 2047 words decoded; text parts freed of transfer encoding and
charset; the same of messages within. All of it casemapped (RFC 5051). Other parts are not searched.

Invariants:
  1. What is looked for lies in one unit: a field, or a part's text. It never has a NUL.
  2. Of a part that is looked through, no more than about ``BLOCK`` octets are held at once.
"""

import binascii
import re
from collections.abc import Iterable, Iterator

from posthouse.message import charsets, headers
from posthouse.message.casemap import casemap
from posthouse.message.mime import Part
from posthouse.store.fetch import Message

BLOCK = 256 * 1024
_BETWEEN = re.compile(r"[\s:]+")


def header_units(section: bytes) -> Iterator[str]:
    """The fields of a header section."""
    for field in headers.iterate(section):
        yield casemap(f"{field.name.decode('latin-1')}: {headers.decode_words(field.value)}")


def longest_word(needle: str) -> bytes | None:
    """Of a casemapped text, what has to stand so in a header section where nothing is encoded; None: nothing can."""
    return max(_BETWEEN.split(needle), key=len).encode() if needle.isascii() else None


def may_have(section: bytes, word: bytes | None) -> bool:
    """Whether a header section may have the text with this longest word in one of its units: most don't, and that is
    seen at once where nothing is encoded."""
    if not section.isascii() or b"=?" in section:
        return True
    return word is not None and word in headers.unfold(section).upper()


def body_units(message: Message) -> Iterator[Iterable[str]]:
    """What is behind the header section; each unit in blocks."""
    pending = [message.part()]
    while pending:
        part = pending.pop()
        pending.extend(part.children)
        if part.message is not None:
            embedded = part.message
            pending.append(embedded)
            for unit in header_units(message.body(embedded.header_start, embedded.body_start)):
                yield (unit,)
        elif not part.children and _is_searched(part):
            yield map(casemap, _texts(message, part))


def contains(unit: Iterable[str], needle: str) -> bool:
    """Whether a unit, given in blocks, has this text in it, which is casemapped and not empty."""
    border = ""
    for block in unit:
        text = border + block
        if needle in text:
            return True
        border = text[-len(needle) :]
    return False


def whole(message: Message, limit: int) -> tuple[str, str] | None:
    """Header section and body, their units ending in NULs; None where that is more than so many characters."""
    header = "".join(unit + "\0" for unit in header_units(message.header()))
    room = limit - len(header)
    pieces: list[str] = []
    for unit in body_units(message):
        for block in unit:
            room -= len(block)
            if room < 0:
                return None
            pieces.append(block)
        pieces.append("\0")
    return (header, "".join(pieces)) if room >= 0 else None


def _is_searched(part: Part) -> bool:
    """Texts, and delivery reports and the like, which are text too."""
    return part.is_text or part.type.lower() == b"message"


def _texts(message: Message, part: Part) -> Iterator[str]:
    """The part's text in blocks; a character that base64 splits between two of them is lost."""
    charset = next((value for name, value in part.parameters if name.lower() == b"charset"), b"")
    for block in _decoded(message, part):
        yield charsets.decode(block, charset.decode("latin-1"))


def _decoded(message: Message, part: Part) -> Iterator[bytes]:
    """The part's octets in blocks, without transfer encoding."""
    encoding = (part.encoding or b"").lower()
    rest = b""
    for block in _blocks(message, part):
        if encoding == b"base64":
            digits = rest + block.translate(None, b"\r\n \t")
            whole_groups = len(digits) // 4 * 4
            rest = digits[whole_groups:]
            yield _from_base64(digits[:whole_groups])
        elif encoding == b"quoted-printable":
            yield binascii.a2b_qp(block)
        else:
            yield block


def _from_base64(digits: bytes) -> bytes:
    try:
        return binascii.a2b_base64(digits)
    except binascii.Error:
        return b""


def _blocks(message: Message, part: Part) -> Iterator[bytes]:
    """The part's body, cut at line ends where there are any."""
    at = part.body_start
    while at < part.body_end:
        block = message.body(at, min(at + BLOCK, part.body_end))
        if not block:
            return
        if at + len(block) < part.body_end and (line_end := block.rfind(b"\n")) >= 0:
            block = block[: line_end + 1]
        at += len(block)
        yield block
