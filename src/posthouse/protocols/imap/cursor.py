"""Reading the pieces of a command: atoms, strings, literals, numbers (RFC 3501 §9).

A cursor stands in one complete command: its lines joined with CRLF and its literals in their places, exactly
as they came, without the CRLF at the end. Whatever does not fit the grammar raises BadCommandError.

Invariants:
  1. The cursor only moves forward, and a method that raises says why; nothing is guessed.
  2. Nested structures are counted, not trusted: ``deeper()`` refuses more than MAX_DEPTH.
"""

import re
from collections.abc import Generator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Final

from posthouse.base.errors import PeerError, Reply
from posthouse.protocols.imap import mutf7
from posthouse.protocols.imap.render import Completion

MAX_DEPTH: Final = 50

_atom = re.compile(rb'[^(){ %*"\\\]\x00-\x1f\x7f-\xff]+').match
_astring = re.compile(rb'[^(){ %*"\\\x00-\x1f\x7f-\xff]+').match
_list_mailbox = re.compile(rb'[^(){ "\\\x00-\x1f\x7f-\xff]+').match
_quoted = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"').match
_unescape = re.compile(rb"\\(.)").sub
_literal = re.compile(rb"\{(\d{1,19})\+?\}\r\n").match
_number = re.compile(rb"\d{1,19}").match

IMAP4REV2: Final = b"IMAP4REV2"
UTF8: Final = b"UTF8=ACCEPT"
UIDONLY: Final = b"UIDONLY"
UID_REQUIRED: Final = Completion("BAD", "Messages go by their UIDs only", "UIDREQUIRED")

MAX_NUMBER: Final = 0xFFFFFFFF
MAX_MODSEQ: Final = (1 << 63) - 1


class BadCommandError(PeerError):
    """The command can't be understood, or asks for what does not exist here; ``completion`` answers it."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(Reply(500, "5.5.2", completion.text))
        self.completion = completion


def syntax_error(text: str) -> BadCommandError:
    """A BAD with this text."""
    return BadCommandError(Completion("BAD", text))


class Cursor:
    """A position in one command. ``enabled``: what ENABLE has switched on, which changes the grammar."""

    __slots__ = ("_depth", "data", "enabled", "position")

    def __init__(self, data: bytes, position: int = 0, enabled: AbstractSet[bytes] = frozenset()) -> None:
        self.data = data
        self.position = position
        self.enabled = enabled
        self._depth = 0

    def at_end(self) -> bool:
        return self.position >= len(self.data)

    def finish(self) -> None:
        """Nothing may follow."""
        if not self.at_end():
            raise syntax_error("Unexpected characters at the end of the command")

    def looking_at(self, token: bytes) -> bool:
        return self.data.startswith(token, self.position)

    def skip(self, token: bytes) -> bool:
        """Pass over ``token`` if it is here."""
        if self.data.startswith(token, self.position):
            self.position += len(token)
            return True
        return False

    def expect(self, token: bytes) -> None:
        if not self.skip(token):
            raise syntax_error("Missing argument" if self.at_end() else f"Expected {token.decode('ascii')!r}")

    def space(self) -> None:
        self.expect(b" ")

    @contextmanager
    def deeper(self) -> Generator[None]:
        """One level further into a nested structure."""
        if self._depth >= MAX_DEPTH:
            raise syntax_error("Nested too deeply")
        self._depth += 1
        yield
        self._depth -= 1

    def atom(self) -> bytes:
        match = _atom(self.data, self.position)
        if match is None:
            raise syntax_error("Expected an atom")
        self.position = match.end()
        return match.group()

    def keyword(self) -> bytes:
        """An atom in upper case."""
        return self.atom().upper()

    def string(self, *, binary: bool = False) -> bytes:
        """A quoted string or a literal; one with NUL, or ``~{…}`` (RFC 3516 §7), only where it may be ``binary``."""
        data, position = self.data, self.position
        match = _quoted(data, position)
        if match is not None:
            self.position = match.end()
            value = match.group(1)
            return _unescape(rb"\1", value) if b"\\" in value else value
        if binary and data.startswith(b"~", position):
            position += 1
        match = _literal(data, position)
        if match is None:
            raise syntax_error("Expected a string")
        start = match.end()
        self.position = start + int(match.group(1))
        value = data[start : self.position]
        if len(value) < self.position - start or (b"\0" in value and not binary):
            raise syntax_error("Invalid literal")
        return value

    def astring(self) -> bytes:
        """An atom, which may hold ``]`` here, or a string."""
        match = _astring(self.data, self.position)
        if match is None:
            return self.string()
        self.position = match.end()
        return match.group()

    def nstring(self, *, binary: bool = False) -> bytes | None:
        """A string or NIL."""
        if self.data[self.position : self.position + 3].upper() == b"NIL":
            self.position += 3
            return None
        return self.string(binary=binary)

    def text(self) -> str:
        """An astring in UTF-8."""
        try:
            return self.astring().decode("utf-8")
        except UnicodeDecodeError:
            raise syntax_error("Invalid UTF-8 in an argument") from None

    def mailbox(self) -> str:
        """A mailbox name; INBOX in any case is ``INBOX`` (RFC 3501 §5.1)."""
        return self._decode_mailbox(self.astring())

    def list_mailbox(self) -> str:
        """A mailbox name with wildcards (RFC 3501 §6.3.8)."""
        match = _list_mailbox(self.data, self.position)
        if match is None:
            return self._decode_mailbox(self.string())
        self.position = match.end()
        return self._decode_mailbox(match.group())

    def _decode_mailbox(self, wire: bytes) -> str:
        try:
            name = mutf7.plain(wire) if names_in_utf8(self.enabled) else mutf7.decode(wire)
        except ValueError as error:
            raise syntax_error(f"Mailbox name: {error}") from None
        return "INBOX" if name.upper() == "INBOX" else name

    def number(self) -> int:
        match = _number(self.data, self.position)
        if match is None:
            raise syntax_error("Expected a number")
        self.position = match.end()
        number = int(match.group())
        if number > MAX_NUMBER:
            raise syntax_error("Number too large")
        return number

    def modseq(self) -> int:
        """A modification sequence, or 0; they have 63 bits (RFC 7162 §3.1)."""
        match = _number(self.data, self.position)
        if match is None or int(match.group()) > MAX_MODSEQ:
            raise syntax_error("Expected a modification sequence")
        self.position = match.end()
        return int(match.group())


def names_in_utf8(enabled: AbstractSet[bytes]) -> bool:
    """Whether mailbox names go over the wire as UTF-8 (RFC 6855 §3, RFC 9051 §5.1), not as modified UTF-7."""
    return IMAP4REV2 in enabled or UTF8 in enabled
