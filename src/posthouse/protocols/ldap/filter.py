"""Search filters from text (RFC 4515) to what is sent (RFC 4511 §4.5.1.7).

All but extensible matches: and, or, not, equality, presence, substrings, ``>=``, ``<=`` and ``~=``.
"""

import re

from posthouse.protocols.ldap.ber import SEQUENCE, element, octets

MAX_DEPTH = 32

_LISTS = {"&": 0xA0, "|": 0xA1}
_NOT = 0xA2
_EQUALITY = 0xA3
_SUBSTRINGS = 0xA4
_PRESENT = 0x87
_COMPARISONS = {"=": _EQUALITY, ">=": 0xA5, "<=": 0xA6, "~=": 0xA8}
_INITIAL, _ANY, _FINAL = 0x80, 0x81, 0x82
# attribute description: a name or a dotted number, with options (RFC 4512 §2.5).
_ITEM = re.compile(r"([A-Za-z0-9.-]+(?:;[A-Za-z0-9-]+)*)(>=|<=|~=|=)([^()\0]*)")
_ESCAPE = re.compile(rb"\\([0-9a-fA-F]{2})")


class FilterError(ValueError):
    """This is no filter; the text says where."""


def parse_filter(text: str) -> bytes:
    """The filter as an element. Raises ``FilterError``."""
    parsed, end = _filter(text, 0, 0)
    if end != len(text):
        raise FilterError(f"something follows the filter at character {end + 1}")
    return parsed


def _filter(text: str, at: int, depth: int) -> tuple[bytes, int]:
    """The filter that begins at ``at``, and where it ends."""
    if depth >= MAX_DEPTH:
        raise FilterError(f"filters within filters more than {MAX_DEPTH} deep")
    _expect(text, at, "(")
    kind = text[at + 1 : at + 2]
    if kind in _LISTS:
        parts, end = _list(text, at + 2, depth)
        parsed = element(_LISTS[kind], b"".join(parts))
    elif kind == "!":
        inner, end = _filter(text, at + 2, depth + 1)
        parsed = element(_NOT, inner)
    else:
        parsed, end = _item(text, at + 1)
    _expect(text, end, ")")
    return parsed, end + 1


def _list(text: str, at: int, depth: int) -> tuple[list[bytes], int]:
    parts: list[bytes] = []
    while text[at : at + 1] == "(" or not parts:
        part, at = _filter(text, at, depth + 1)
        parts.append(part)
    return parts, at


def _item(text: str, at: int) -> tuple[bytes, int]:
    match = _ITEM.match(text, at)
    if match is None:
        raise FilterError(f"no 'attribute=value' at character {at + 1}")
    attribute, operator, value = match[1].encode(), match[2], match[3]
    parts = [_value(part, at) for part in value.split("*")]
    if operator != "=" and len(parts) > 1:
        raise FilterError(f"'*' after '{operator}' at character {at + 1}")
    if len(parts) == 1:
        return element(_COMPARISONS[operator], octets(attribute) + octets(parts[0])), match.end()
    if parts == [b"", b""]:
        return octets(attribute, _PRESENT), match.end()
    return element(_SUBSTRINGS, octets(attribute) + element(SEQUENCE, _substrings(parts))), match.end()


def _substrings(parts: list[bytes]) -> bytes:
    pieces = [octets(parts[0], _INITIAL)] if parts[0] else []
    pieces += [octets(part, _ANY) for part in parts[1:-1] if part]
    pieces += [octets(parts[-1], _FINAL)] if parts[-1] else []
    if not pieces:
        raise FilterError("'**' where a value has to be")
    return b"".join(pieces)


def _value(text: str, at: int) -> bytes:
    octets_of_text = text.encode()
    if b"\\" in _ESCAPE.sub(b"", octets_of_text):
        raise FilterError(f"'\\' without two hexadecimal digits after character {at + 1}")
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), octets_of_text)


def _expect(text: str, at: int, character: str) -> None:
    if text[at : at + 1] != character:
        raise FilterError(f"'{character}' has to be at character {at + 1}")
