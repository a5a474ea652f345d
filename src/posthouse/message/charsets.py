"""Character sets of mail, as names that senders choose: any name gives some text, never an exception.

Invariant: time and memory are linear in the input, whatever the name.
"""

import codecs
import re
from functools import lru_cache

# Codecs of Python's that are no character sets of mail: quadratic ones (punycode, idna), interpreters of escapes.
_NOT_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "mbcs", "oem"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,39}\Z")


@lru_cache(maxsize=256)
def _codec(charset: str) -> str | None:
    if not _NAME.match(charset):
        return None
    try:
        name = codecs.lookup(charset).name
        if name in _NOT_CHARSETS:
            return None
        b"a".decode(name, "replace")  # raises for codecs from bytes to bytes (base64, zip)
    except (LookupError, UnicodeError):
        return None
    # What calls itself ASCII or Latin 1 is often Windows' code page, which has more characters (WHATWG Encoding).
    return "cp1252" if name == "iso8859-1" else name


def decode(data: bytes, charset: str = "") -> str:
    """``data`` as text; an unknown, absent or wrong charset is taken for UTF-8, failing that for Windows-1252."""
    codec = _codec(charset.strip().lower()) if charset else None
    if codec is not None and codec != "ascii":
        return data.decode(codec, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
