"""Content transfer encodings undone (RFC 2045 §6), as far as what comes can be read."""

import binascii
import re

IDENTITY = frozenset({b"", b"7bit", b"8bit", b"binary"})
_not_base64 = re.compile(rb"[^A-Za-z0-9+/]+").sub


def decode(data: bytes, encoding: bytes) -> bytes | None:
    """The octets that a body stands for; None where the encoding is not known.

    Characters that base64 doesn't have are passed over (§6.8), and a group that is not complete gives what it has.
    """
    name = encoding.strip().lower()
    if name in IDENTITY:
        return data
    if name == b"quoted-printable":
        return binascii.a2b_qp(data)
    if name == b"base64":
        return b"".join(map(_from_base64, data.split(b"=")))
    return None


def _from_base64(data: bytes) -> bytes:
    """Up to a padding: pieces that were encoded by themselves may follow each other."""
    digits = _not_base64(b"", data)
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
