"""The rights of RFC 4314 as sets of letters.

``c`` and ``d`` of RFC 2086 stand for what they were split into (§2.1.1): ``c`` for ``k`` and ``x``, ``d`` for ``t``
and ``e``.
"""

from collections.abc import Iterable
from typing import Final

ORDER: Final = "lrswipkxtea"
ALL: Final = frozenset(ORDER)
NONE: Final = frozenset[str]()
VIRTUAL: Final = {"c": frozenset("kx"), "d": frozenset("te")}
VISIBLE: Final = "l"
WRITING: Final = frozenset("ieswt")
"""A mailbox is READ-WRITE for who has any of these (§5.2): all flags are shared here."""


def parse(text: str) -> frozenset[str]:
    """Raises ValueError, which names the letter that is no right."""
    rights: set[str] = set()
    for letter in text:
        if letter not in ALL and letter not in VIRTUAL:
            raise ValueError(f"{letter!r} is not a right")
        rights |= VIRTUAL.get(letter, {letter})
    return frozenset(rights)


def spelled(rights: Iterable[str]) -> str:
    """In the order of RFC 4314 §2.1."""
    return "".join(sorted(rights, key=ORDER.index))


def compatible(rights: frozenset[str]) -> str:
    """With ``c`` and ``d`` for clients of RFC 2086, which RFC 4314 §2.1.1 asks for."""
    return spelled(rights) + "".join(letter for letter, parts in VIRTUAL.items() if parts & rights)


def needed_for(flag: str) -> str:
    """The right to change a flag (RFC 4314 §4)."""
    return {"\\seen": "s", "\\deleted": "t"}.get(flag.lower(), "w")


def allowed_flags(flags: frozenset[str], rights: frozenset[str]) -> frozenset[str]:
    """Those that somebody with these rights may set."""
    return frozenset(flag for flag in flags if needed_for(flag) in rights)
