"""Names of message files: ``<seconds>.M<µs>P<pid>Q<n>.<host>,S=<size>,W=<CRLF size>:2,<letters>``.

The part before the colon, the base, is the message's identity and never changes; the letters after ``:2,`` are
its flags, in ASCII order. Inside the store flags are a mask: one bit for each letter we know, five of the
Maildir specification and ``a`` to ``z`` for the keywords of ``dovecot-keywords``. Letters we don't know stay.
"""

import itertools
import os
import re

DRAFT, FLAGGED, ANSWERED, SEEN, DELETED = (1 << bit for bit in range(5))
SYSTEM_FLAGS = {
    "\\draft": DRAFT,
    "\\flagged": FLAGGED,
    "\\answered": ANSWERED,
    "\\seen": SEEN,
    "\\deleted": DELETED,
}
KEYWORD_SHIFT = 5
KEYWORD_LIMIT = 26

_BITS = {letter: 1 << bit for bit, letter in enumerate("DFRSTabcdefghijklmnopqrstuvwxyz")}
_numbers = itertools.count(1)
_not_a_message = re.compile("^\\.|[\x00-\x1f\x7f\ud800-\udfff]").search
_arrival = re.compile(r"(\d{1,18})(?:\.M(\d{1,9}))?").match
_sizes = re.compile(r",S=(\d{1,15})(?:,.*?)?,W=(\d{1,15})(?:,|$)").search


def unique_base(host: str, now_ns: int) -> str:
    """A base that no other process of any host chooses."""
    seconds, rest = divmod(now_ns, 1_000_000_000)
    return f"{seconds}.M{rest // 1000:06d}P{os.getpid()}Q{next(_numbers)}.{host}"


def host_part(hostname: str) -> str:
    """The host name as it may stand in a base (the Maildir specification's escapes)."""
    return hostname.replace("/", "\\057").replace(":", "\\072").replace(",", "\\054")


def is_message(name: str) -> bool:
    """Whether a directory entry may be a message: hidden files and names we could not write down are not."""
    return not _not_a_message(name)


def split(name: str) -> tuple[str, str]:
    """The base, and the rest from the colon on."""
    base, colon, info = name.partition(":")
    return base, colon + info


def mask_of(info: str) -> int:
    """The flags in the part from the colon on."""
    mask = 0
    for letter in _letters(info):
        mask |= _BITS.get(letter, 0)
    return mask


def info_with(info: str, mask: int) -> str:
    """The part from the colon on, with these flags and whatever unknown letters it had."""
    letters = {letter for letter in _letters(info) if letter not in _BITS}
    letters.update(letter for letter, bit in _BITS.items() if mask & bit)
    return ":2," + "".join(sorted(letters))


def arrival(base: str) -> tuple[int, int, str]:
    """Sorts bases by the time at which they were made."""
    found = _arrival(base)
    return (int(found[1]), int(found[2] or 0), base) if found else (0, 0, base)


def sizes(base: str) -> tuple[int, int] | None:
    """The file's size and the CRLF form's, where the name says both."""
    found = _sizes(base)
    return (int(found[1]), int(found[2])) if found else None


def _letters(info: str) -> str:
    return info[3:].partition(",")[0] if info.startswith(":2,") else ""
