"""How values look on the wire: strings, literals, flags, dates, sequence sets and status lines.

Invariants:
  1. Whatever the value, what comes out is one well-formed token: no value can end a line or a string early.
  2. NUL never goes out but in literal8; a literal may not hold it (RFC 3501 §9, CHAR8). In message text it becomes
     0x80, so that every octet count stays true; elsewhere it is dropped.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from posthouse.protocols.imap import mutf7

NIL: Final = b"NIL"
SYSTEM_FLAGS: Final = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")

# Longer strings go out as literals: some clients keep quoted strings in small fixed buffers.
LONGEST_QUOTED: Final = 1000

_quotable = re.compile(rb"[^\r\n\x80-\xff]*").fullmatch
_atom = re.compile(rb'[^(){ %*"\\\]\x00-\x20\x7f-\xff]+').fullmatch


def literal(value: bytes) -> bytes:
    """Message text as a literal (RFC 3501 §4.3)."""
    if b"\0" in value:
        value = value.replace(b"\0", b"\x80")
    return b"{%d}\r\n%b" % (len(value), value)


def literal8(value: bytes) -> bytes:
    """Octets as they are: a literal, or where they have NUL one that may (RFC 3516 §6)."""
    return b"%b{%d}\r\n%b" % (b"~" * (b"\0" in value), len(value), value)


def string(value: bytes) -> bytes:
    """A quoted string where that can hold the value, a literal elsewhere (RFC 3501 §4.3)."""
    if b"\0" in value:
        value = value.replace(b"\0", b"")
    if len(value) > LONGEST_QUOTED or not _quotable(value):
        return literal(value)
    if b"\\" in value or b'"' in value:
        value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"%b"' % value


def nstring(value: bytes | None) -> bytes:
    """``NIL`` or a string."""
    return NIL if value is None else string(value)


def astring(value: bytes) -> bytes:
    """An atom where that can hold the value, a string elsewhere."""
    return value if _atom(value) and value.upper() != NIL else string(value)


def mailbox(name: str, *, utf8: bool = False) -> bytes:
    """A mailbox name in modified UTF-7 (RFC 3501 §5.1.3), or in UTF-8 (RFC 6855 §3)."""
    if not utf8:
        return astring(mutf7.encode(name))
    if name.isascii():
        return astring(name.encode("ascii"))
    return b'"%b"' % name.encode("utf-8", "replace").replace(b"\\", b"\\\\").replace(b'"', b'\\"')


@lru_cache(maxsize=4096)
def flag_list(flags: frozenset[str]) -> bytes:
    """``(\\Seen $Forwarded)``; in a fixed order."""
    return b"(%b)" % " ".join(sorted(flags)).encode("ascii", "replace")


def sequence_set(numbers: Iterable[int]) -> bytes:
    """``1:3,5``: numbers in their order, neighbours joined into ranges (RFC 4315 §3 keeps that order)."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return range_set(ranges)


def range_set(ranges: Iterable[Sequence[int]]) -> bytes:
    """``1:3,5``: pairs of lowest and highest."""
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in ranges)


@dataclass(frozen=True, slots=True)
class Completion:
    """How a command ended: the tagged response, without its tag. ``code`` is without its brackets."""

    status: Literal["OK", "NO", "BAD"]
    text: str
    code: str = ""

    def to_bytes(self) -> bytes:
        """``OK [READ-WRITE] SELECT completed``; characters that would break the line become ``?``."""
        code = f"[{self.code}] " if self.code else ""
        line = f"{self.status} {code}{self.text}"
        return "".join(c if " " <= c <= "~" else "?" for c in line).encode("ascii")


def ok(text: str, code: str = "") -> Completion:
    """The command succeeded."""
    return Completion("OK", text, code)


def no(text: str, code: str = "") -> Completion:
    """The command failed (codes: RFC 5530)."""
    return Completion("NO", text, code)


def bad(text: str, code: str = "") -> Completion:
    """The command was not understood, or not now."""
    return Completion("BAD", text, code)
