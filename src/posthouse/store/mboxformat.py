"""mbox files, as text: where messages begin, and their flags in ``Status``, ``X-Status`` and ``X-Keywords``. Pure.

A message begins with a ``From `` line that has a date, at the beginning or behind a blank line; in a message such
lines have a ``>`` more (mboxrd).

Invariant: what is written here is read here as the same message with the same flags.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from posthouse.message.mboxlines import from_line, quoted

_LINE_BYTES = 65_536
_line_end = re.compile(rb"\r+\n")
_from = re.compile(rb"From \S.*?(\w{3} +\d{1,2} \d{2}:\d{2}(?::\d{2})?(?: [A-Z]{3,4})? \d{4})").match
_quoted_from = re.compile(rb"^>(>*From )", re.MULTILINE)
_own_fields = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase):.*\n(?:[ \t].*\n)*", re.MULTILINE | re.IGNORECASE
)
_flag_fields = re.compile(rb"^(?:Status|X-Status|X-Keywords):.*\n(?:[ \t].*\n)*", re.MULTILINE | re.IGNORECASE)
_status = re.compile(rb"^(?:X-)?Status:[ \t]*([A-Za-z]*)", re.MULTILINE | re.IGNORECASE)
_keywords = re.compile(rb"^X-Keywords:[ \t]*(.*)", re.MULTILINE | re.IGNORECASE)
_uid = re.compile(rb"^X-UID:[ \t]*(\d{1,9})[ \t]*$", re.MULTILINE | re.IGNORECASE).search
_uid_base = re.compile(rb"^X-IMAP(?:base)?:[ \t]*(\d{1,10}) +(\d{1,10})(?: |$)", re.MULTILINE | re.IGNORECASE).search
_is_internal = re.compile(rb"^Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA$", re.MULTILINE).search
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LETTERS = {"R": "\\Seen", "A": "\\Answered", "F": "\\Flagged", "T": "\\Draft", "D": "\\Deleted"}
_NAMES = {name: letter for letter, name in _LETTERS.items()}


class NoMbox(ValueError):
    """It does not begin with a ``From `` line."""


class TooLong(ValueError):
    """A message is longer than was allowed."""


@dataclass(frozen=True, slots=True)
class MboxMessage:
    """``data`` with LF, unquoted and without the fields that mail programs keep their notes in; ``date`` in seconds
    since the epoch. ``uid``: what Dovecot or c-client gave it, 0 for none; ``uid_base``: UIDVALIDITY and the last UID
    that they gave, in one message of a file. ``is_internal``: it is itself only such a note, c-client's."""

    data: bytes
    flags: frozenset[str]
    date: float
    is_old: bool
    uid: int
    uid_base: tuple[int, int] | None
    is_internal: bool


def segments(file: IO[bytes], largest_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Each message's place, and its octets from its ``From `` line to the next one's; None: more than
    ``largest_bytes``. Raises NoMbox."""
    held = bytearray()
    start = at = size = 0
    is_blank, has_begun = True, False
    while line := file.readline(_LINE_BYTES):
        if is_blank and _from(line):
            if has_begun:
                yield start, bytes(held) if size <= largest_bytes else None
            held, size, start, has_begun = bytearray(line), len(line), at, True
        elif has_begun:
            size += len(line)
            if size <= largest_bytes:
                held += line
        elif line.strip():
            raise NoMbox
        at += len(line)
        is_blank = line in (b"\n", b"\r\n")
    if has_begun:
        yield start, bytes(held) if size <= largest_bytes else None


def parsed(raw: bytes) -> MboxMessage:
    """What a segment says."""
    line, _, text = _unix(raw).partition(b"\n")
    if text == b"\n" or text.endswith(b"\n\n"):
        text = text[:-1]  # what stands between messages
    head, end, body = _split(text)
    letters = "".join(found.decode() for found in _status.findall(head)).upper()
    flags = {_LETTERS[letter] for letter in letters if letter in _LETTERS}
    for found in _keywords.findall(head):
        flags.update(found.decode("utf-8", "replace").split())
    said = _from(line)
    data = _quoted_from.sub(rb"\1", _own_fields.sub(b"", head) + end + body)
    uid, base = _uid(head), _uid_base(head)
    return MboxMessage(
        data,
        frozenset(flags),
        _time(said[1]) if said else 0.0,
        "O" in letters,
        int(uid[1]) if uid else 0,
        (int(base[1]), int(base[2])) if base else None,
        bool(base and _is_internal(head)),
    )


def flagged(raw: bytes, flags: frozenset[str]) -> bytes:
    """A segment with other flags, and with LF; its message's octets stay."""
    line, _, text = _unix(raw).partition(b"\n")
    head, end, body = _split(text)
    return line + b"\n" + _flag_fields.sub(b"", head) + _fields(flags) + (end or b"\n") + body


def rendered(data: bytes, flags: frozenset[str], date: float) -> bytes:
    """The segment that a message becomes."""
    head, end, body = _split(_unix(data if data.endswith(b"\n") else data + b"\n"))
    text = _own_fields.sub(b"", head) + _fields(flags) + (end or b"\n") + body + b"\n"
    return from_line("", datetime.fromtimestamp(date, UTC)) + b"".join(quoted([text]))


def ended(raw: bytes) -> bytes:
    """A segment with the blank line behind it that the next one needs."""
    return raw if raw.endswith((b"\n\n", b"\n\r\n")) else raw + b"\n" if raw.endswith(b"\n") else raw + b"\n\n"


def _unix(text: bytes) -> bytes:
    return _line_end.sub(b"\n", text)


def _split(text: bytes) -> tuple[bytes, bytes, bytes]:
    """The header's lines, the blank line, the body; the last two are empty where there is no blank line."""
    if text.startswith(b"\n"):
        return b"", b"\n", text[1:]
    head, blank, body = text.partition(b"\n\n")
    return (head + b"\n", b"\n", body) if blank else (text, b"", b"")


def _fields(flags: frozenset[str]) -> bytes:
    letters = "".join(sorted(_NAMES[flag] for flag in flags if flag in _NAMES))
    keywords = " ".join(sorted(flag for flag in flags if not flag.startswith("\\")))
    fields = f"Status: {'R' if 'R' in letters else ''}O\n"
    if others := letters.replace("R", ""):
        fields += f"X-Status: {others}\n"
    if keywords:
        fields += f"X-Keywords: {keywords}\n"
    return fields.encode()


def _time(text: bytes) -> float:
    """Of asctime(3)'s form, with or without seconds and time zone, which is taken for UTC; 0 where it is none."""
    month, day, clock, *_, year = text.decode("ascii", "replace").split()
    hour, minute, second = [*map(int, clock.split(":")), 0][:3]
    try:
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
