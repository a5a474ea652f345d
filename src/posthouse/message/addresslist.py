"""Address lists of header fields (RFC 5322 §3.4, §4.4), as IMAP's ENVELOPE wants them (RFC 3501 §7.4.2).

Made for what arrives: obsolete routes, blanks and comments anywhere, quotes, brackets and groups that are not
closed, commas too many, 8-bit octets.

Invariants:
  1. No input raises; time is linear and bounded, and no more than ``MAX_ADDRESSES`` items come back.
  2. A ``GroupEnd`` follows every ``GroupStart``; groups do not nest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.message.headers import unfold
from posthouse.message.parameters import comment_end, quoted_string

MAX_ADDRESSES = 10_000
MAX_VALUE = 524_288
"""What is looked at, in octets; addresses further on are ignored."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """``name``: the display name, or the comment after a bare address, without quoting, RFC 2047 words as written;
    None where there is none. ``adl``: the source route, ``@a,@b``, or None. ``local``, ``domain``: without quoting,
    empty where missing."""

    name: bytes | None
    adl: bytes | None
    local: bytes
    domain: bytes


@dataclass(frozen=True, slots=True)
class GroupStart:
    name: bytes


@dataclass(frozen=True, slots=True)
class GroupEnd:
    pass


Item = Mailbox | GroupStart | GroupEnd

_TOKEN = re.compile(rb'[\s\x00]++|,[\s,]*+|;[\s,;]*+|[<>@:("\[]|[^\s\x00<>@,;:("\[]++')


def parse_addresses(value: bytes) -> list[Item]:
    """The items of an address field's value, folded or not, in order."""
    reader = _Reader()
    for kind, text in _tokens(unfold(value[:MAX_VALUE])):
        reader.take(kind, text)
        if len(reader.items) >= MAX_ADDRESSES - 2:
            break
    reader.end_group()
    return reader.items


_Token = tuple[bytes, bytes]
"""Kind and content. Kinds: ``a`` atom, ``"`` quoted string, ``[`` domain literal, ``(`` comment, a blank, and
each special character itself. Contents are without quotes and parentheses; a literal keeps its brackets."""


def _tokens(value: bytes) -> Iterator[_Token]:
    at = 0
    while token := _TOKEN.match(value, at):
        text, at = token[0], token.end()
        first = text[:1]
        if first == b'"':
            text, at = quoted_string(value, at - 1)
        elif first == b"(":
            start, at = at, comment_end(value, at - 1)
            text = value[start : at - value.endswith(b")", start, at)]
        elif first == b"[":
            at = value.find(b"]", at) + 1 or len(value)
            text = value[token.start() : at]
        elif first in b" \t\r\n\v\f\0":
            first = b" "
        elif first in b"<>@,;:":
            text = first  # a run of separators is one
        else:
            first = b"a"
        yield first, text


class _Reader:
    """Gathers the tokens of one address, until something ends it."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.in_group = False
        self.tokens: list[_Token] = []
        self.angle = b""
        """Empty outside angle brackets, ``<`` after the opening one, ``@`` in a route, ``a`` in the address."""

    def take(self, kind: bytes, text: bytes) -> None:
        if kind == b"," and self.angle != b"@":
            self.end_address()
        elif kind == b";":  # also between addresses, where some programs write it for the comma
            self.end_group()
        elif kind == b":" and not self.angle:
            self._start_group()
        else:
            self.tokens.append((kind, text))
            self._follow_angle(kind)

    def _follow_angle(self, kind: bytes) -> None:
        if kind == b"<":
            self.angle = kind
        elif kind == b">":
            self.angle = b""
        elif (self.angle == b"<" and kind not in b" (") or (self.angle == b"@" and kind == b":"):
            self.angle = b"@" if kind == b"@" else b"a"

    def end_address(self) -> None:
        if mailbox := _mailbox(self.tokens):
            self.items.append(mailbox)
        self.tokens = []
        self.angle = b""

    def _start_group(self) -> None:
        if not self.in_group:
            self.items.append(GroupStart(_phrase(self.tokens)))
            self.in_group = True
        self.tokens = []

    def end_group(self) -> None:
        self.end_address()
        if self.in_group:
            self.items.append(GroupEnd())
            self.in_group = False


def _mailbox(tokens: list[_Token]) -> Mailbox | None:
    kinds = [kind for kind, _ in tokens]
    if b"<" not in kinds:
        comments = [text.strip() for kind, text in tokens if kind == b"("]
        address = _address(tokens, b" ".join(filter(None, comments)))
        return address if address.local or address.domain else None
    opening = kinds.index(b"<")
    closing = kinds.index(b">", opening) if b">" in kinds[opening:] else len(kinds)
    return _address(tokens[opening + 1 : closing], _phrase(tokens[:opening]))


def _address(tokens: list[_Token], name: bytes) -> Mailbox:
    """The address that these tokens are, with ``name``."""
    words = [(kind, text) for kind, text in tokens if kind not in b" (<>"]
    adl, at = None, 0
    kinds = [kind for kind, _ in words]
    if kinds[:1] == [b"@"] and b":" in kinds:
        at = kinds.index(b":") + 1
        adl = b"".join(text for _, text in words[: at - 1])
    if b"@" not in kinds[at:]:
        return Mailbox(name or None, adl, _phrase(tokens) if not at else _joined(words[at:]), b"")
    sign = len(kinds) - 1 - kinds[::-1].index(b"@")  # whatever comes before the last one is local
    return Mailbox(name or None, adl, _joined(words[at:sign]), _joined(words[sign + 1 :]))


def _joined(words: list[_Token]) -> bytes:
    return b"".join(text for _, text in words)


def _phrase(tokens: list[_Token]) -> bytes:
    """The words, with one blank between two where there was any, or a comment."""
    words: list[bytes] = []
    spaced = False
    for kind, text in tokens:
        if kind in b" (":
            spaced = bool(words)
            continue
        if spaced:
            words.append(b" ")
        words.append(text)
        spaced = False
    return b"".join(words)
