"""How a message begins, for lists of messages (RFC 8970)."""

import html
import re
from collections.abc import Callable
from typing import Final

from posthouse.message import charsets
from posthouse.message.mime import Part
from posthouse.message.transfer import decode

LONGEST: Final = 200  # characters; RFC 8970 §3.2 allows 256
LOOKED_AT: Final = 16 * 1024  # octets of a part

_hidden = re.compile(
    r"<(style|script|head|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL
).sub
_tag = re.compile(r"<[^<>]*(?:>|\Z)").sub
_quoted = re.compile(r"^>.*$", re.MULTILINE).sub


def preview(part: Part, octets: Callable[[int, int], bytes]) -> str:
    """At most ``LONGEST`` characters on one line; empty where there is no text. ``octets`` cuts the message."""
    for subtype in (b"plain", b"html"):
        found = _first_text(part, subtype)
        if found is not None and (text := _beginning(found, octets)):
            return text
    return ""


def _beginning(found: Part, octets: Callable[[int, int], bytes]) -> str:
    data = decode(octets(found.body_start, min(found.body_end, found.body_start + LOOKED_AT)), found.encoding or b"")
    charset = next((value for name, value in found.parameters if name.lower() == b"charset"), b"")
    text = charsets.decode(data or b"", charset.decode("latin-1"))
    text = _without_markup(text) if found.subtype.lower() == b"html" else _quoted("", text)
    return " ".join("".join(char if char.isprintable() else " " for char in text[:LOOKED_AT]).split())[:LONGEST]


def _first_text(part: Part, subtype: bytes) -> Part | None:
    """Depth first; what is attached or in another message is not how this one begins."""
    pending = [part]
    while pending:
        each = pending.pop()
        pending.extend(reversed(each.children))
        is_attached = (each.disposition or b"").lower() == b"attachment"
        if each.is_text and not each.children and each.subtype.lower() == subtype and not is_attached:
            return each
    return None


def _without_markup(text: str) -> str:
    return html.unescape(_tag(" ", _hidden(" ", text)))
