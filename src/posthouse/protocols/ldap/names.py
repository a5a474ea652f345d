"""Values from outside in distinguished names and search filters, so that they stay values."""

import re

_PLACEHOLDER = re.compile(r"\{(login|local|domain)\}")
_SAFE_IN_DN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-")
_SPECIAL_IN_FILTER = frozenset(b"\\*()\0")


def fill_dn(template: str, values: dict[str, str]) -> str:
    """The name that ``template`` makes with ``{login}``, ``{local}`` and ``{domain}`` replaced."""
    return _PLACEHOLDER.sub(lambda match: escape_in_dn(values[match[1]]), template)


def fill_filter(template: str, values: dict[str, str]) -> str:
    """The filter that ``template`` makes with ``{login}``, ``{local}`` and ``{domain}`` replaced."""
    return _PLACEHOLDER.sub(lambda match: escape_in_filter(values[match[1]]), template)


def escape_in_dn(value: str) -> str:
    """The value of an attribute in a name: all but plain characters as ``\\XX`` (RFC 4514 §2.4)."""
    return "".join(chr(octet) if octet in _SAFE_IN_DN else f"\\{octet:02x}" for octet in value.encode())


def escape_in_filter(value: str) -> str:
    """The value of an assertion in a filter: what means something there as ``\\XX`` (RFC 4515 §3)."""
    return "".join(
        f"\\{octet:02x}" if octet in _SPECIAL_IN_FILTER or octet >= 0x80 else chr(octet) for octet in value.encode()
    )
