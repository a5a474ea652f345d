"""A message in the line ends and the quoting of Unix: for programs' standard input and for mbox files.

Invariant: whatever the cut of the chunks that go in, the same octets come out.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from posthouse.message.headers import printable

_FROM = re.compile(rb"\n(>*From )")
_MAY_BECOME_FROM = re.compile(rb"\n>*(?:F(?:r(?:o(?:m)?)?)?)?\Z")
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
