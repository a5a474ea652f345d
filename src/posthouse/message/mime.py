"""The MIME structure of a message as exact octet offsets (RFC 2045, RFC 2046), for BODYSTRUCTURE and BODY[1.2].

One pass over the data finds every delimiter line; nothing is done for other lines. Broken mail gets what keeps its
text readable and its BODYSTRUCTURE valid, as Dovecot does:
  - Delimiter lines begin with ``--`` and a boundary (RFC 2046 §5.1.1: what follows on the line is ignored). Where
    several open boundaries fit, the one that is the whole line, then the longest, then the innermost.
  - A missing closing delimiter: the part ends where its parent does. A delimiter within a header section ends it.
  - No Content-Type, or one that can't be read: text/plain in US-ASCII, in a digest message/rfc822. So is a
    multipart without a boundary parameter.
  - A multipart without any part has one: empty, at its end.
  - Containers past ``max_depth`` or ``max_parts`` are not taken apart: application/octet-stream.

Invariants:
  1. ``header_start <= body_start <= body_end``, children lie within their parent's body, in ascending order.
  2. No input raises; time is linear in the data (times the depth for lines that look like delimiters), memory in
     the number of parts.
  3. Nothing here recurses into depth except msgspec's codec, which ``max_depth`` bounds.
"""

import re
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from posthouse.message import headers, parameters
from posthouse.message.parameters import Parameters

MAX_DEPTH = 100
MAX_PARTS = 10_000
MAX_FIELD = 16_384
"""What of a Content-… field's value is looked at, in octets; the rest of a longer one is ignored."""

MAX_LINE = 65_536
"""What of a line is compared with delimiters, in octets."""
_HEADER_BLOCK = 65_536

US_ASCII: Parameters = ((b"charset", b"us-ascii"),)

_CONTENT_FIELD = re.compile(
    rb"\ncontent-(type|transfer-encoding|id|description|disposition|language|location|md5)[ \t]*+:", re.IGNORECASE
)
_FIELD_END = re.compile(rb"\n(?![ \t])")
_TOKEN = rb"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]++"
_MEDIA_TYPE = re.compile(rb"(%b)/(%b)" % (_TOKEN, _TOKEN))


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message or a part of one.

    Its header section is ``[header_start:body_start]``, the blank line included, its body
    ``[body_start:body_end]``, without the line end that belongs to the delimiter (RFC 2046 §5.1.1). ``lines`` counts
    the line ends of the body. Values are octets as written, unfolded, without quoting.
    """

    header_start: int
    body_start: int
    body_end: int
    lines: int
    type: bytes = b"text"
    subtype: bytes = b"plain"
    parameters: Parameters = US_ASCII
    id: bytes | None = None
    description: bytes | None = None
    encoding: bytes | None = None
    md5: bytes | None = None
    disposition: bytes | None = None
    disposition_parameters: Parameters = ()
    language: tuple[bytes, ...] = ()
    location: bytes | None = None
    children: tuple["Part", ...] = ()
    """Of a multipart: one or more."""
    message: "Part | None" = None
    """Of message/rfc822: the message in the body; its header section is what the envelope is made from."""

    @property
    def is_multipart(self) -> bool:
        return bool(self.children)

    @property
    def is_text(self) -> bool:
        return self.type.lower() == b"text"

    @property
    def size(self) -> int:
        """Octets of the body."""
        return self.body_end - self.body_start

    def find(self, path: str) -> "Part | None":
        """The part that a section's numbers, ``1.2.3``, name in this message (RFC 3501 §6.4.5).

        In a message that is no multipart, ``1`` is its body: the Part of the message itself.
        """
        part, is_message = self, True
        for number in path.split("."):
            if not is_message and part.message is not None:
                part, is_message = part.message, True
            if not (number.isascii() and number.isdecimal() and len(number) <= 10):
                return None
            if 1 <= int(number) <= len(part.children):
                part = part.children[int(number) - 1]
            elif part.is_multipart or not is_message or int(number) != 1:
                return None
            is_message = False
        return part

    def to_bytes(self) -> bytes:
        """The whole tree, compact, for a cache."""
        return _ENCODER.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> "Part":
        """What ``to_bytes`` gave; ``msgspec.MsgspecError`` for anything else."""
        return _DECODER.decode(data)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Part)


class Octets(Protocol):
    """What ``bytes`` can do, as far as it is needed here: a message that is not in memory can do it too."""

    def __len__(self) -> int: ...

    def __getitem__(self, wanted: slice, /) -> bytes: ...

    def find(self, wanted: bytes, start: int, /) -> int: ...

    def startswith(self, prefix: bytes | tuple[bytes, ...], start: int, /) -> bool: ...

    def count(self, octet: bytes, start: int, end: int, /) -> int: ...


def scan(data: Octets, max_depth: int = MAX_DEPTH, max_parts: int = MAX_PARTS) -> Part:
    """The structure of a message whose lines end with CRLF; LF will do, and counts one octet."""
    return _Scanner(data, max_depth, max_parts).scan()


@dataclass(slots=True)
class _Node:
    """A part in the making."""

    header_start: int
    body_start: int
    content: dict[bytes, bytes]
    media_type: tuple[bytes, bytes]
    parameters: Parameters
    body_end: int = -1
    delimiter: bytes = b""
    """``--boundary`` while parts of this multipart may begin."""
    is_multipart: bool = False
    is_message: bool = False
    children: list["_Node"] = field(default_factory=list["_Node"])
    part: Part | None = None


class _Scanner:
    def __init__(self, data: Octets, max_depth: int, max_parts: int) -> None:
        self.data = data
        self.max_depth = max_depth
        self.max_parts = max_parts
        self.nodes: list[_Node] = []
        """All, each before its children."""
        self.stack: list[_Node] = []
        """Those whose end is not found yet, outermost first."""
        self.delimiters: tuple[bytes, ...] = ()
        """Of the stack."""
        self.beginning = b""
        """What all of them begin with, after a line end: few other lines do."""

    def scan(self) -> Part:
        """Opens and closes parts from delimiter to delimiter.

        ``at`` is always on the line end before the place to look at, because that is how a delimiter begins.
        """
        data = self.data
        at = self._open(0)
        while (at := self._next_delimiter(at)) >= 0 and len(self.nodes) < self.max_parts:
            multipart = self._multipart(at)
            self._close(multipart, self._line_start(at))
            after = at + 1 + len(multipart.delimiter)
            line_end = data.find(b"\n", after)
            next_line = line_end + 1 if line_end >= 0 else len(data)
            if data.startswith(b"--", after):
                multipart.delimiter = b""
                self._collect_delimiters()
                at = next_line - 1
            else:
                at = self._open(next_line)
        self._close(None, len(data))
        return self._finish()

    def _next_delimiter(self, at: int) -> int:
        if not self.delimiters:
            return -1
        data, delimiters, beginning = self.data, self.delimiters, self.beginning
        while (at := data.find(beginning, at)) >= 0 and not data.startswith(delimiters, at + 1):
            at += 3
        return at

    def _multipart(self, at: int) -> _Node:
        """Whose delimiter is on the line after ``at``."""
        line_end = self.data.find(b"\n", at + 1)
        line_end = min(line_end if line_end >= 0 else len(self.data), at + 1 + MAX_LINE)
        line = self.data[at + 1 : line_end].rstrip(b" \t\r")
        fitting = [node for node in reversed(self.stack) if node.delimiter and line.startswith(node.delimiter)]
        for node in fitting:
            if line in (node.delimiter, node.delimiter + b"--"):
                return node
        return max(fitting, key=lambda node: len(node.delimiter))

    def _line_start(self, at: int) -> int:
        """Where the line end that has its LF at ``at`` begins."""
        return at - self.data.startswith(b"\r", at - 1)

    def _close(self, multipart: _Node | None, end: int) -> None:
        """All that is open within ``multipart`` ends at ``end``, though not before it began."""
        while self.stack and self.stack[-1] is not multipart:
            node = self.stack.pop()
            node.body_end = end = max(end, node.body_start)
        self._collect_delimiters()

    def _collect_delimiters(self) -> None:
        self.delimiters = tuple(node.delimiter for node in self.stack if node.delimiter)
        if self.delimiters:
            self.beginning = b"\n" + _common_beginning(min(self.delimiters), max(self.delimiters))

    def _open(self, start: int) -> int:
        """Opens the part that begins at ``start``, and the messages it wraps; returns where to look on."""
        at = start - 1
        while True:
            body_start, at = self._header(start, at)
            node = self._node(start, body_start)
            self.nodes.append(node)
            if self.stack:
                self.stack[-1].children.append(node)
            self.stack.append(node)
            self._contain(node)
            if not node.is_message:
                return at
            start = body_start

    def _header(self, start: int, at: int) -> tuple[int, int]:
        """Where the body begins, and the line end to look on from."""
        data = self.data
        if start == 0:
            end = _first_header_end(data)
            return end, max(end - 1, 0)
        while (at := data.find(b"\n", at)) >= 0:
            if data.startswith((b"\n", b"\r\n"), at + 1):
                blank = data.find(b"\n", at + 1)
                return blank + 1, blank
            if data.startswith(self.delimiters, at + 1):
                return max(start, self._line_start(at)), at
            at += 1
        return len(data), len(data)

    def _node(self, start: int, body_start: int) -> _Node:
        content = _content_fields(self.data[start:body_start])
        parent = self.stack[-1] if self.stack else None
        if b"type" not in content and parent and parent.is_multipart and parent.media_type[1].lower() == b"digest":
            return _Node(start, body_start, content, (b"message", b"rfc822"), ())  # RFC 2046 §5.1.5
        media_type, parameters_ = _media_type(content.get(b"type", b""))
        return _Node(start, body_start, content, media_type, parameters_)

    def _contain(self, node: _Node) -> None:
        """Settles whether the node is taken apart, and how."""
        main, sub = (name.lower() for name in node.media_type)
        is_message = (main, sub) == (b"message", b"rfc822")
        if main != b"multipart" and not is_message:
            return
        boundary = next((value for name, value in node.parameters if name.lower() == b"boundary"), b"").rstrip()
        if not boundary and not is_message:
            node.media_type, node.parameters = (b"text", b"plain"), US_ASCII
        elif len(self.stack) > self.max_depth or len(self.nodes) >= self.max_parts:
            node.media_type, node.parameters = (b"application", b"octet-stream"), ()
        elif is_message:
            node.is_message = True
        else:
            node.is_multipart, node.delimiter = True, b"--" + boundary
            self._collect_delimiters()

    def _finish(self) -> Part:
        lines_before = self._lines_before({end for node in self.nodes for end in (node.body_start, node.body_end)})
        for node in reversed(self.nodes):
            lines = lines_before[node.body_end] - lines_before[node.body_start]
            node.part = _part(node, lines)
        root = self.nodes[0].part
        assert root is not None
        return root

    def _lines_before(self, offsets: set[int]) -> dict[int, int]:
        """The line ends before each offset, counted in one pass however deep the parts are nested."""
        lines, last, before = 0, 0, dict[int, int]()
        for offset in sorted(offsets):
            lines += self.data.count(b"\n", last, offset)
            before[offset], last = lines, offset
        return before


def _first_header_end(data: Octets) -> int:
    size = _HEADER_BLOCK
    while (end := headers.header_end(data[:size])) >= size - 2 and size < len(data):
        size *= 2
    return end


def _common_beginning(a: bytes, b: bytes) -> bytes:
    if b.startswith(a):
        return a
    return a[: next(at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)]


def _content_fields(header: bytes) -> dict[bytes, bytes]:
    """The Content-… fields of a header section, by what follows the hyphen; the first of each."""
    section = b"\n" + header
    content: dict[bytes, bytes] = {}
    for name in _CONTENT_FIELD.finditer(section):
        start = name.end()
        end = _FIELD_END.search(section, start, start + MAX_FIELD)
        value = headers.unfold(section[start : end.start() if end else start + MAX_FIELD])
        content.setdefault(name[1].lower(), value)
    return content


def _media_type(value: bytes) -> tuple[tuple[bytes, bytes], Parameters]:
    head, given = parameters.parse(value)
    media_type = _MEDIA_TYPE.fullmatch(head)
    if not media_type:
        return (b"text", b"plain"), US_ASCII  # RFC 2045 §5.2
    return (media_type[1], media_type[2]), given


def _part(node: _Node, lines: int) -> Part:
    content = node.content
    inner = tuple(child.part for child in node.children if child.part is not None)
    if node.is_multipart and not inner:
        inner = (Part(node.body_end, node.body_end, node.body_end, 0),)
    disposition, disposition_parameters = parameters.parse(content.get(b"disposition", b""))
    return Part(
        node.header_start,
        node.body_start,
        node.body_end,
        lines,
        *node.media_type,
        node.parameters,
        id=content.get(b"id") or None,
        description=content.get(b"description") or None,
        encoding=parameters.parse(content.get(b"transfer-encoding", b""))[0] or None,
        md5=content.get(b"md5") or None,
        disposition=disposition or None,
        disposition_parameters=disposition_parameters if disposition else (),
        language=_languages(content.get(b"language", b"")),
        location=content.get(b"location") or None,
        children=inner if node.is_multipart else (),
        message=inner[0] if node.is_message else None,
    )


def _languages(value: bytes) -> tuple[bytes, ...]:
    """RFC 3282 §2: tags between commas."""
    return tuple(tag for each in value.split(b",") if (tag := parameters.parse(each)[0]))
