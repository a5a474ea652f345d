"""Lines of words between tabs, with whatever would break a line escaped.

``\\x01`` escapes: ``0`` is NUL, ``1`` is ``\\x01``, ``t`` is a tab, ``r`` is CR, ``n`` is LF. Dovecot's documentation
says ``l`` for LF, its programs write and read ``n``; both are read here.
"""

import re
from collections.abc import Iterable

_ESCAPES = {"\0": "\x010", "\x01": "\x011", "\t": "\x01t", "\r": "\x01r", "\n": "\x01n"}
_MEANINGS = {"0": "\0", "1": "\x01", "t": "\t", "r": "\r", "n": "\n", "l": "\n"}
_SPECIAL = re.compile("[\0\x01\t\r\n]")
_ESCAPED = re.compile("\x01(.?)", re.DOTALL)


def split(line: str) -> list[str]:
    """The words of a line; at least one, which may be empty."""
    if "\x01" not in line:
        return line.split("\t")
    return [_ESCAPED.sub(lambda match: _MEANINGS.get(match[1], match[1]), word) for word in line.split("\t")]


def join(words: Iterable[str]) -> str:
    """The line that has these words, with its end."""
    return "\t".join([_SPECIAL.sub(lambda match: _ESCAPES[match[0]], word) for word in words]) + "\n"
