"""Asking spamd about one message, without I/O: a request like HTTP's out, a line and headers back.

Invariants:
  1. An answer is at most ``MAX_ANSWER`` octets; what is none is ``Broken``, never a score.
  2. No name that a client chose ends a line of the request.
"""

import re
from dataclasses import dataclass

from posthouse.protocols.engine import NEED_DATA, Pause

MAX_ANSWER = 1024 * 1024
_STATUS = re.compile(rb"SPAMD/\d+\.\d+ (\d{1,3}) ?([^\r\n]{0,200})")
_SPAM = re.compile(r"(True|False|Yes|No) ?; ?(-?\d{1,9}(?:\.\d{1,9})?) ?/ ?(-?\d{1,9}(?:\.\d{1,9})?)", re.IGNORECASE)
_NOT_IN_USER = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class Scored:
    """What spamd thinks: ``threshold`` is where spam begins for it; ``symbols`` the names of its rules that match."""

    is_spam: bool
    score: float
    threshold: float
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """``changed``: what it has done with a message that it was told about, of ``local`` and ``remote``."""

    changed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Broken:
    """There is no answer; ``reason`` is for the log."""

    reason: str


def check(size_bytes: int, user: str = "") -> bytes:
    """The head of a question for score and rules; the message, of so many octets, follows."""
    return _request("SYMBOLS", size_bytes, user)


def learn(size_bytes: int, *, is_spam: bool, user: str = "") -> bytes:
    """The head of what it is to learn; the message follows. spamd has to be started with ``--allow-tell``."""
    return _request("TELL", size_bytes, user, f"Message-class: {'spam' if is_spam else 'ham'}", "Set: local")


def _request(word: str, size_bytes: int, user: str, *more: str) -> bytes:
    who = [f"User: {_NOT_IN_USER.sub('?', user)}"] if user else []
    lines = [f"{word} SPAMC/1.5", f"Content-length: {size_bytes}", *who, *more, "", ""]
    return "\r\n".join(lines).encode("ascii")


class SpamdAnswer:
    """The answer to one request: it is over when spamd closes its side."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False

    def receive(self, data: bytes) -> None:
        """Bytes from spamd; ``b""`` when it has closed its side."""
        if data:
            self._data += data
        else:
            self._ended = True

    def next_event(self) -> Scored | Learned | Broken | Pause:
        """What it says, once that is complete."""
        if len(self._data) > MAX_ANSWER:
            return Broken("its answer is too long")
        if not self._ended:
            return NEED_DATA
        head, end, body = bytes(self._data).partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        found = _STATUS.fullmatch(status)
        if not found or not end:
            return Broken("its answer is none, or cut off")
        if int(found[1]):
            return Broken(f"it says {found[1].decode()} {found[2].decode('ascii', 'replace')}")
        headers = dict(_header(line) for line in lines)
        return _meaning(headers, body)


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()


def _meaning(headers: dict[str, str], body: bytes) -> Scored | Learned | Broken:
    if "spam" in headers:
        spam = _SPAM.fullmatch(headers["spam"])
        if not spam:
            return Broken("its answer has no score")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) != len(body):
            return Broken("its answer is cut off")
        symbols = tuple(name for name in re.split(r"[,\s]+", body.decode("ascii", "replace")) if name)
        return Scored(spam[1].lower() in ("true", "yes"), float(spam[2]), float(spam[3]), symbols)
    done = headers.get("didset", "") + "," + headers.get("didremove", "")
    return Learned(frozenset(word.strip() for word in done.split(",") if word.strip()))
