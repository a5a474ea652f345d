"""``dovecot-keywords``: which letter in file names stands for which keyword in this mailbox.

Lines ``<number> <keyword>``, number 0 being the letter ``a``. There are 26 letters; a keyword that finds none
free is not stored, and the flags that are given back say so.

Invariant: the file is the truth, in every process. Where it is gone no letter has a meaning.
"""

import os
import re

from posthouse.store import filename
from posthouse.store.dotlock import Dotlock
from posthouse.store.layout import replace_file

RECENT = 1 << 31  # a session's own, never in a file name
_NAMES = {"\\Draft": filename.DRAFT, "\\Flagged": filename.FLAGGED, "\\Answered": filename.ANSWERED,
          "\\Seen": filename.SEEN, "\\Deleted": filename.DELETED, "\\Recent": RECENT}  # fmt: skip

_NO_FILE = (-1, -1, -1)


class Keywords:
    """The letters of one mailbox: flags to masks and back. Equal masks give the same frozenset."""

    __slots__ = ("_by_mask", "_path", "_stamp", "names")

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp = _NO_FILE
        self._by_mask: dict[int, frozenset[str]] = {}
        self.names: tuple[str, ...] = ()
        self.reload()

    def reload(self) -> None:
        """Reads the file again if it has changed."""
        try:
            state = os.stat(self._path)
            stamp = (state.st_mtime_ns, state.st_ino, state.st_size)
            if stamp == self._stamp:
                return
            self.names = _read(self._path)
        except FileNotFoundError:
            self.names, stamp = (), _NO_FILE
        self._by_mask = {}
        self._stamp = stamp

    def flags(self, mask: int) -> frozenset[str]:
        by_mask = self._by_mask  # of the names of now, or of no use to anybody: another thread may reload meanwhile
        found = by_mask.get(mask)
        if found is None:
            letters = enumerate(self.names, filename.KEYWORD_SHIFT)
            found = frozenset(
                [name for name, bit in _NAMES.items() if mask & bit]
                + [name for bit, name in letters if name and mask >> bit & 1]
            )
            by_mask[mask] = found
        return found

    def bit(self, flag: str) -> int:
        """0 where this mailbox has no such flag; ``\\Recent`` has none."""
        wanted = flag.lower()
        if wanted in filename.SYSTEM_FLAGS:
            return filename.SYSTEM_FLAGS[wanted]
        for bit, name in enumerate(self.names, filename.KEYWORD_SHIFT):
            if name.lower() == wanted:
                return 1 << bit
        return 0

    def mask(self, flags: frozenset[str], *, add: bool = True) -> int:
        """The flags that this mailbox can keep; with ``add``, new keywords get a letter."""
        missing = sorted(flag for flag in flags if not flag.startswith("\\") and not self.bit(flag))
        if add and missing and len(self.names) < filename.KEYWORD_LIMIT:
            self._add(missing)
        mask = 0
        for flag in flags:
            mask |= self.bit(flag)
        return mask

    def _add(self, missing: list[str]) -> None:
        with Dotlock(self._path):
            self.reload()
            names = [*self.names, *(flag for flag in missing if not self.bit(flag) and _writable(flag))]
            kept = names[: filename.KEYWORD_LIMIT]
            replace_file(self._path, "".join(f"{n} {name}\n" for n, name in enumerate(kept) if name).encode())
            self.reload()


# An atom of IMAP: whatever else a file says would end its list of flags (RFC 3501 §9, flag-keyword).
_writable = re.compile(r"""[^(){ %*"\\\]\x00-\x1f\x7f-\U0010ffff]+""").fullmatch


def _read(path: str) -> tuple[str, ...]:
    names = [""] * filename.KEYWORD_LIMIT
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            number, _, name = line.rstrip("\n").partition(" ")
            if number.isdecimal() and len(number) < 3 and int(number) < len(names):
                names[int(number)] = name
    while names and not names[-1]:
        names.pop()
    return tuple(names)
