"""Changing addresses in a header field's value, and nothing else of it (RFC 5322 §3.4).

Invariants:
  1. No input raises; time is linear. Octets outside of an address that is changed stay as they are.
  2. Display names, comments and quoted strings are no addresses; where there are angle brackets only what is in
     them is. An address with blanks around its ``@`` is left alone.
"""

import re
from collections.abc import Callable

from posthouse.message.parameters import comment_end, quoted_string

_PIECE = re.compile(rb'([^\s"(),:;<>@\[\\]++)(@(?:\[[^\]\s]*+\]|[^\s"(),:;<>@\[\\]++))?|["(<>,;:]')


def change_addresses(value: bytes, change: Callable[[str], str | None]) -> bytes:
    """The value with each ``local@domain`` for which ``change`` has another put in its place."""
    made: list[bytes] = []
    done = 0
    for start, end in _addresses(value):
        octets = value[start:end]
        new = change(octets.decode()) if octets.isascii() else None
        if new is not None:
            made += [value[done:start], new.encode()]
            done = end
    return b"".join([*made, value[done:]])


def _addresses(value: bytes) -> list[tuple[int, int]]:
    """Where addresses begin and end."""
    found: list[tuple[int, int]] = []
    bare: list[tuple[int, int]] = []
    at, in_angle, had_angle = 0, False, False
    while piece := _PIECE.search(value, at):
        at, sign = piece.end(), piece[0]
        if piece[2] is not None:
            (found if in_angle else bare).append(piece.span())
        elif sign == b'"':
            at = max(at, quoted_string(value, piece.start())[1])
        elif sign == b"(":
            at = comment_end(value, piece.start())
        elif sign in (b"<", b">"):
            in_angle, had_angle = sign == b"<", True
        elif not in_angle:
            found += [] if had_angle else bare
            bare, in_angle, had_angle = [], False, False
    return sorted([*found, *([] if had_angle else bare)])
