"""LIST's wildcards (RFC 3501 §6.3.8): ``*`` matches anything, ``%`` anything but the hierarchy separator.

Invariant: matching takes at most pattern length times name length steps; a regular expression would let
``*a*a*a*a*`` take the server's time.
"""

from typing import Final

SEPARATOR: Final = "."

SHARED: Final = "Shared"
SHARED_SEPARATOR: Final = "/"
"""Below ``Shared/`` stand other users' mailboxes; addresses have dots, so the levels there are cut by slashes."""


def is_shared(name: str) -> bool:
    """Whether the name is of another user's mailbox, or of a level above some."""
    return name.startswith(SHARED + SHARED_SEPARATOR)


def separator_of(name: str) -> str:
    """What cuts this name into levels."""
    return SHARED_SEPARATOR if is_shared(name) or name == SHARED else SEPARATOR


def above(name: str) -> list[str]:
    """The levels above a name, the highest first."""
    separator = separator_of(name)
    parts = name.split(separator)
    return [separator.join(parts[:depth]) for depth in range(1, len(parts))]


class Wildcards:
    """A pattern, ready to be matched with many names. INBOX matches in any case."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str) -> None:
        squeezed: list[str] = []
        for char in pattern:
            if char in "*%" and squeezed and squeezed[-1] in "*%":
                # Wildcards in a row match what the widest of them does.
                squeezed[-1] = "*" if "*" in (char, squeezed[-1]) else "%"
            else:
                squeezed.append(char)
        text = "".join(squeezed)
        first, separator, rest = text.partition(SEPARATOR)
        self._pattern = "INBOX" + separator + rest if first.upper() == "INBOX" else text

    @property
    def ends_at_level(self) -> bool:
        """Whether the pattern ends in ``%``, which also finds levels that are no mailboxes."""
        return self._pattern.endswith("%")

    def match(self, name: str) -> bool:
        """Whether the whole name fits."""
        pattern = self._pattern
        if pattern == "*" or pattern == name:
            return True
        separator = separator_of(name)
        # Positions in the pattern that fit the name so far; a wildcard stays open while it matches on.
        places = _passing(pattern, {0})
        for char in name:
            following: set[int] = set()
            for place in places:
                if place == len(pattern):
                    continue
                wanted = pattern[place]
                if wanted == "*" or (wanted == "%" and char != separator):
                    following.add(place)
                elif wanted == char and wanted != "%":
                    following.add(place + 1)
            places = _passing(pattern, following)
            if not places:
                return False
        return len(pattern) in places


def _passing(pattern: str, places: set[int]) -> set[int]:
    """The places, and those behind wildcards that match nothing more."""
    return places | {place + 1 for place in places if pattern[place : place + 1] in ("*", "%")}
