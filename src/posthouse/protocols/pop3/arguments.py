"""The arguments of POP3's commands."""

from binascii import Error as Base64Error
from binascii import a2b_base64

_MAX_DIGITS = 10


def number(text: str) -> int | None:
    """A number of a message or of lines, from 0; None where it is none."""
    if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
        return int(text)
    return None


def decode_initial(initial: bytes) -> bytes | None:
    """``=`` stands for an initial response that is empty. RFC 5034 §4. ``ValueError`` as below."""
    if not initial:
        return None
    return b"" if initial == b"=" else decode_base64(initial)


def decode_base64(text: bytes) -> bytes:
    """Strict; ``ValueError`` says to the client what is wrong."""
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error:
        raise ValueError("Not base64") from None
