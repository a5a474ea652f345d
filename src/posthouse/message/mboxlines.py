"""A message in the line ends and the quoting of Unix: for programs' standard input and for mbox files.

Invariant: whatever the cut of the chunks that go in, the same octets come out.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from posthouse.message.headers import printable

_FROM = re.compile(rb"\n(>*From )")
_MAY_BECOME_FROM = re.compile(rb"\n>*(?:F(?:r(?:o(?:m)?)?)?)?\Z")
_NOTE = re.compile(rb"(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase)[ \t]*:", re.IGNORECASE).match
_LONGEST_HELD = 4096
_BLANK = re.compile(r"\s")


def from_line(sender: str, arrived: datetime) -> bytes:
    """The line that begins a message in an mbox file; nobody is MAILER-DAEMON."""
    who = _BLANK.sub("?", printable(sender, utf8=True)) or "MAILER-DAEMON"
    return f"From {who}  {arrived.ctime()}\n".encode()


def with_lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """CRLF becomes LF; every other octet stays."""
    held = b""
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        yield data[: len(data) - len(held)].replace(b"\r\n", b"\n")
    yield held


def without_notes(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A message with LF without the fields in which programs note flags and UIDs: senders have no say in those."""
    source = iter(chunks)
    held, is_dropped, is_line_start = b"", False, True
    for chunk in source:
        data = held + chunk
        at = 0
        kept: list[bytes] = []
        while (end := data.find(b"\n", at) + 1) or len(data) - at > _LONGEST_HELD:
            line = data[at : end or len(data)]
            if is_line_start and line == b"\n":
                yield b"".join(kept) + data[at:]
                yield from source
                return
            if is_line_start:
                is_dropped = bool(_NOTE(line)) or (is_dropped and line[:1] in (b" ", b"\t"))
            is_line_start = bool(end)
            if not is_dropped:
                kept.append(line)
            at += len(line)
        held = data[at:]
        yield b"".join(kept)
    if not (_NOTE(held) or (is_dropped and held[:1] in (b" ", b"\t"))) if is_line_start else not is_dropped:
        yield held


def quoted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Every line of a message with LF that is ``From `` after any number of ``>`` gets one more (mboxrd)."""
    held, skip = b"\n", 1  # as if a line had ended before the first
    for chunk in chunks:
        data = held + chunk
        found = _MAY_BECOME_FROM.search(data)
        held = data[found.start() :] if found else b""
        data = _FROM.sub(rb"\n>\1", data[: len(data) - len(held)])
        yield data[skip:]
        skip = 0 if data else skip
    yield held[skip:]
