"""Header sections: where they end, their fields, unfolding, RFC 2047 words.

Made for what arrives, not for what RFC 5322 §2.2 allows: lines end with CRLF or LF, or with CR where there is no
LF at all; blanks may stand before the colon; lines without a colon and an mbox ``From `` line are no fields; NUL
and 8-bit octets are data.

Invariants:
  1. No input raises; time is linear in the size of the header section.
  2. Offsets are octets of the data as it was passed in.
"""

import binascii
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from posthouse.message import charsets

_BLANK_LINE = re.compile(rb"\n\r?\n")
_LAST_BLANK_LINE = re.compile(rb"(?:\A|\n|\r(?=\r\Z))(\r?\n|\r)\Z")
# A field or a stray line: up to the line end that no continuation line follows.
_LINE_END = re.compile(rb"\n(?![ \t])")
_NAME = re.compile(rb"([!-9;-~]++)[ \t]*+:")
_FOLD = re.compile(rb"\r?\n|\r(?=[ \t])")
_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")

_LINE_LENGTH = 78
_LONGEST_WORD = 320


@dataclass(frozen=True, slots=True)
class HeaderField:
    """``name`` as written; ``value`` raw, folds included, without the last line end; ``start``, ``end`` enclose
    the whole field with its line end."""

    name: bytes
    value: bytes
    start: int
    end: int


def header_end(data: bytes) -> int:
    """Offset just past the blank line that ends the header section, or ``len(data)`` where there is none."""
    if data.startswith((b"\n", b"\r\n")):
        return 1 + data.startswith(b"\r")
    found = _BLANK_LINE.search(data)
    if found:
        return found.end()
    if b"\n" in data:
        return len(data)
    if data.startswith(b"\r"):
        return 1
    return data.find(b"\r\r") + 2 if b"\r\r" in data else len(data)


def fields(data: bytes) -> list[HeaderField]:
    """The fields of the header section that ``data`` begins with, in order; a body that follows is not looked at."""
    return list(iterate(data))


def iterate(data: bytes) -> Iterator[HeaderField]:
    """``fields``, one at a time."""
    end = header_end(data)
    section = data[:end] if b"\n" in data else data[:end].replace(b"\r", b"\n")
    start = 0
    while start < end:
        found = _LINE_END.search(section, start)
        after = found.end() if found else end
        name = _NAME.match(section, start, after)
        if name:
            yield HeaderField(name[1], data[name.end() : after].rstrip(b"\r\n"), start, after)
        start = after


def first(fields: Iterable[HeaderField], name: bytes) -> HeaderField | None:
    """The first field of that name, in any case."""
    wanted = name.lower()
    return next((field for field in fields if field.name.lower() == wanted), None)


def only(data: bytes, names: Collection[bytes]) -> bytes:
    """The fields of these names, which are in lower case, as they stand, and a blank line."""
    kept = [data[field.start : field.end] for field in iterate(data) if field.name.lower() in names]
    return b"".join([*kept, b"\r\n"])


def without(data: bytes, names: Collection[bytes]) -> bytes:
    """The header section but for the fields of these names, which are in lower case, and a blank line.

    What is no field stays: together with what ``only`` gives, nothing of the section is lost.
    """
    kept: list[bytes] = []
    at = 0
    for field in iterate(data):
        if field.name.lower() in names:
            kept.append(data[at : field.start])
            at = field.end
    end = header_end(data)
    blank_line = _LAST_BLANK_LINE.search(data, max(0, end - 3), end)
    kept.append(data[at : blank_line.start(1) if blank_line else end])
    return b"".join([*kept, b"\r\n"])


def unfold(value: bytes) -> bytes:
    """The value on one line, blanks around it removed (RFC 5322 §2.2.3)."""
    if b"\n" in value or b"\r" in value:
        value = _FOLD.sub(b"", value)
    return value.strip(b" \t\r\n")


def printable(text: str, *, utf8: bool = False) -> str:
    """``text`` as it may stand in a field that we write: what is not printable, and without ``utf8`` what is not
    ASCII, is a question mark."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each.isprintable() and (utf8 or each.isascii()) else "?" for each in text)


def fold(name: str, words: Iterable[str]) -> str:
    """A field with its line end, folded at 78 octets wherever that is between words (RFC 5322 §2.1.1, §2.2.3)."""
    # A line may not be longer than 998 octets, so that a word may have to be torn.
    pieces = [word[at : at + _LONGEST_WORD] for word in words for at in range(0, len(word), _LONGEST_WORD)]
    lines: list[str] = []
    line = " ".join([f"{name}:", *pieces[:1]])
    for piece in pieces[1:]:
        length = len(line) + 1 + len(piece) if line.isascii() and piece.isascii() else len(f"{line} {piece}".encode())
        if length <= _LINE_LENGTH:
            line += f" {piece}"
        else:
            lines.append(line)
            line = f"\t{piece}"
    return "\r\n".join([*lines, line, ""])


def decode_words(value: bytes) -> str:
    """The unfolded value as text, its encoded words decoded (RFC 2047), whatever their state."""
    value = unfold(value)
    if b"=?" not in value:
        return charsets.decode(value)
    runs: list[tuple[str, list[bytes]]] = []  # charset, empty for plain text, and its octets
    at = 0
    for word in _WORD.finditer(value):
        between = value[at : word.start()]
        charset = word[1].decode("latin-1").split("*", 1)[0].lower()  # RFC 2231 §5: =?charset*language?
        # Blanks between encoded words are not text (RFC 2047 §6.2), and senders split characters over two words.
        adjacent = at > 0 and not between.strip(b" \t")
        if not adjacent:
            runs.append(("", [between]))
        if adjacent and runs[-1][0] == charset:
            runs[-1][1].append(_decoded(word[2], word[3]))
        else:
            runs.append((charset, [_decoded(word[2], word[3])]))
        at = word.end()
    runs.append(("", [value[at:]]))
    return "".join(charsets.decode(b"".join(octets), charset) for charset, octets in runs)


def _decoded(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return _HEX.sub(lambda octet: bytes.fromhex(octet[1].decode()), text.replace(b"_", b" "))
    digits = _NOT_BASE64.sub(b"", text)
    if len(digits) % 4 == 1:  # one digit alone holds no octet
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
