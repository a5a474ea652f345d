"""Mailbox names in modified UTF-7 (RFC 3501 §5.1.3), and as they are (RFC 9051 §5.1).

Invariant: only the canonical form of a name is accepted, so that one mailbox has one spelling on the wire:
printable ASCII stands for itself, ``&`` is ``&-``, everything else is base64 of UTF-16-BE with no padding bits
set, and no two base64 runs touch.
"""

import codecs
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

# Python loads codecs when they are first asked for: a process that has given up root may find its files closed.
codecs.lookup("utf-16-be")
_control = re.compile("[\x00-\x1f\x7f-\x9f]").search
_outside_ascii = re.compile(r"&|[^\x20-\x7e]+")


def _shift(match: re.Match[str]) -> str:
    run = match.group()
    if run == "&":
        return "&-"
    coded = b2a_base64(run.encode("utf-16-be", "surrogatepass"), newline=False).decode("ascii")
    return "&" + coded.rstrip("=").replace("/", ",") + "-"


def encode(name: str) -> bytes:
    """The name as it goes over the wire."""
    if name.isascii() and name.isprintable() and "&" not in name:
        return name.encode("ascii")
    return _outside_ascii.sub(_shift, name).encode("ascii")


def decode(wire: bytes) -> str:
    """The name that was sent. Raises ValueError where it is not canonical modified UTF-7."""
    if not wire.isascii():
        raise ValueError("8-bit characters in a mailbox name")
    text = wire.decode("ascii")
    if "&" not in text:
        if not text.isprintable():
            raise ValueError("control characters in a mailbox name")
        return text
    name = re.sub("&([^-]*)-", _unshift, text)
    if _control(name):
        raise ValueError("control characters in a mailbox name")
    if encode(name) != wire:
        raise ValueError("not modified UTF-7")
    return name


def plain(wire: bytes) -> str:
    """The name that was sent in UTF-8. Raises ValueError where it is none."""
    name = wire.decode("utf-8")
    if _control(name) or "\u2028" in name or "\u2029" in name:
        raise ValueError("control characters in a mailbox name")
    return name


def _unshift(match: re.Match[str]) -> str:
    coded = match.group(1)
    if not coded:
        return "&"
    if "/" in coded:
        raise ValueError("not modified base64")
    try:
        octets = a2b_base64(coded.replace(",", "/") + "=" * (-len(coded) % 4), strict_mode=True)
        return octets.decode("utf-16-be")
    except (Base64Error, UnicodeDecodeError) as error:
        raise ValueError("not modified base64 of UTF-16") from error
