"""Field values of the form ``value; name=value…``: Content-Type, Content-Disposition (RFC 2045 §5.1, RFC 2183 §2).

Also the lexical pieces that all structured fields share: comments and quoted strings (RFC 5322 §3.2).

Invariants:
  1. No input raises; time is linear.
  2. Parameters stay as they are on the wire: RFC 2231 continuations and charsets, RFC 2047 words and 8-bit octets
     are kept, only quoting is removed.
"""

import re

Parameters = tuple[tuple[bytes, bytes], ...]

_COMMENT_MARK = re.compile(rb"[()\\]")
_QUOTED = re.compile(rb'"((?:[^"\\]++|\\.)*+)\\?+(?:"|\Z)', re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_BLANKS = re.compile(rb"\s*+")
_HEAD = re.compile(rb"[^\s;(]*+(?:\s*+/\s*+[^\s;(]++)?")
_BETWEEN = re.compile(rb"[\s;]*+")
_NAME = re.compile(rb'([^\s=;"(]++)\s*+=\s*+')
_TRAILING_COMMENT = re.compile(rb"\s\(")


def comment_end(data: bytes, start: int) -> int:
    """Offset past the comment that opens at ``start``, comments nested in it included (RFC 5322 §3.2.2)."""
    depth, at = 0, start
    while mark := _COMMENT_MARK.search(data, at):
        at = mark.end()
        if mark[0] == b"\\":
            at += 1
        else:
            depth += 1 if mark[0] == b"(" else -1
            if depth == 0:
                return at
    return len(data)


def skip_blanks(data: bytes, at: int) -> int:
    """Offset of the first octet from ``at`` on that is neither blank nor in a comment."""
    end = _BLANKS.match(data, at).end()  # pyright: ignore[reportOptionalMemberAccess]
    while data.startswith(b"(", end):
        end = _BLANKS.match(data, comment_end(data, end)).end()  # pyright: ignore[reportOptionalMemberAccess]
    return end


def quoted_string(data: bytes, start: int) -> tuple[bytes, int]:
    """The content of the quoted string that opens at ``start``, without its quoting, and the offset past it.

    One that is not closed goes to the end of the data.
    """
    quoted = _QUOTED.match(data, start)
    if not quoted:
        return b"", start
    content = quoted[1]
    return _QUOTED_PAIR.sub(rb"\1", content) if b"\\" in content else content, quoted.end()


def parse(value: bytes) -> tuple[bytes, Parameters]:
    """What stands before the first parameter, comments removed, and the parameters, of an unfolded value."""
    head = _HEAD.match(value, skip_blanks(value, 0)) if value else None
    if not head:
        return b"", ()
    parameters: list[tuple[bytes, bytes]] = []
    at = skip_blanks(value, head.end())
    while at < len(value):
        at = skip_blanks(value, _BETWEEN.match(value, at).end())  # pyright: ignore[reportOptionalMemberAccess]
        if name := _NAME.match(value, at):
            content, at = _content(value, name.end())
            parameters.append((name[1], content))
        semicolon = value.find(b";", at)
        at = semicolon + 1 if semicolon >= 0 else len(value)
    return b"".join(head[0].split()), tuple(parameters)


def _content(value: bytes, start: int) -> tuple[bytes, int]:
    """A parameter's content. Without quotes it goes to the semicolon, whatever characters it has."""
    if value.startswith(b'"', start):
        return quoted_string(value, start)
    semicolon = value.find(b";", start)
    end = semicolon if semicolon >= 0 else len(value)
    comment = _TRAILING_COMMENT.search(value, start, end)
    return value[start : comment.start() if comment else end].strip(), end
