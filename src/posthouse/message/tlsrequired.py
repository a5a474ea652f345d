"""The header field ``TLS-Required: No``: better unprotected than not delivered, says its author (RFC 8689)."""

import re

from posthouse.message.headers import header_end

_FIELD = re.compile(rb"^TLS-Required[ \t]*:(.*)\r?\n(?![ \t])", re.IGNORECASE | re.MULTILINE)
_COMMENT = re.compile(rb"\([^()]*\)")


def waives_tls(head: bytes) -> bool:
    """Whether the header section that ``head`` begins with says so. A field that stands twice says nothing (§3)."""
    if b"-required" not in head and b"-Required" not in head and b"-REQUIRED" not in head:
        return False  # the common case, at the price of a look
    values = _FIELD.findall(head, 0, header_end(head))
    return len(values) == 1 and _COMMENT.sub(b"", values[0]).strip().lower() == b"no"
