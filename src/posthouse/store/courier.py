"""What Courier wrote beside the messages, read once: when a Maildir that it served is first opened here.

    courierimapuiddb                  1 <uidvalidity> <next uid>, then lines <uid> <base>
    courierpop3dsizelist              /3 <next> <uidvalidity>, then lines <name> <size> <n>:<uidvalidity>[:<utf8>]
    courierimapkeywords/:list         keywords, a blank line, then lines <base>:<numbers of keywords from 0>
    courierimapkeywords/[.<n>.]<base> all keywords of one message, one a line: newer than the list, and of several
                                      the one without a number, else the highest
    courierimapsubscribed             lines INBOX.<folder>, in UTF-8 (from 5.0 on) or modified UTF-7

IMAP's and POP3's numbers are different ones: what POP3 clients know as ``UID<n>-<uidvalidity>`` becomes a unique id
of the message's own. Blocking.
"""

import contextlib
import os
import re
from dataclasses import dataclass, field

from posthouse.store import filename, uidlist
from posthouse.store.keywords import Keywords
from posthouse.store.layout import Folder, decoded_name

UIDS = "courierimapuiddb"
UIDLS = "courierpop3dsizelist"
KEYWORDS = "courierimapkeywords"
SUBSCRIPTIONS = "courierimapsubscribed"

_header = re.compile(r"1 (\d{1,10}) (\d{1,10})$").match
_line = re.compile(r"(\d{1,10}) ([^\n]+)").fullmatch
_uidls_version = re.compile(r"/[23] \d").match
_uidl_line = re.compile(r"(.+) \d+ (\d{1,20}):(\d{1,20})(?::\d+)?").fullmatch
_update = re.compile(r"\.(\d{1,18})\.(.+)").fullmatch
_plain = re.compile(r"[\x21-\x7e]").fullmatch


@dataclass(frozen=True, slots=True)
class Legacy:
    """``uidvalidity`` is 0 where only POP3 was used. ``uids``, ``uidls`` and ``keywords`` are by base."""

    uidvalidity: int = 0
    uidnext: int = 1
    uids: dict[str, int] = field(default_factory=dict[str, int])
    uidls: dict[str, str] = field(default_factory=dict[str, str])
    keywords: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])


def read(folder: Folder) -> Legacy:
    """All that is known of one mailbox's messages; empty where Courier was never here."""
    uidls = _uidls(_lines(f"{folder.path}/{UIDLS}")) if not folder.name else {}
    keywords = _keywords(f"{folder.path}/{KEYWORDS}")
    lines = _lines(f"{folder.path}/{UIDS}")
    header = _header(lines[0]) if lines else None
    if header is None or not 0 < int(header[1]) < 2**32:
        return Legacy(uidls=uidls, keywords=keywords)
    by_uid: dict[int, str] = {}
    for line in lines[1:]:
        found = _line(line)
        if found and 0 < int(found[1]) <= uidlist.LARGEST_UID:
            by_uid[int(found[1])] = filename.split(found[2])[0]
    uids = {base: uid for uid, base in sorted(by_uid.items())}
    uidnext = max(int(header[2]), max(by_uid, default=0) + 1)
    return Legacy(int(header[1]), min(uidnext, uidlist.LARGEST_UID + 1), uids, uidls, keywords)


def subscriptions(account_path: str) -> list[str]:
    """Names as ours are: INBOX's children stand beside it."""
    names: list[str] = []
    for line in _lines(f"{account_path}/{SUBSCRIPTIONS}"):
        head, dot, rest = line.partition(".")
        if head.upper() == "INBOX" and (name := decoded_name(rest) if dot else "INBOX") is not None:
            names.append(name)
    return names


def name_keywords(folder: Folder, by_base: dict[str, frozenset[str]]) -> None:
    """Puts keywords into file names, as far as there are letters for them."""
    letters = Keywords(folder.keywords)
    for path in folder.names("cur"):
        base, info = filename.split(path[4:])
        if base in by_base:
            with contextlib.suppress(FileNotFoundError):  # renamed just now: it is left as it is
                named = filename.info_with(info, filename.mask_of(info) | letters.mask(by_base[base]))
                os.rename(f"{folder.path}/{path}", f"{folder.path}/cur/{base}{named}")


def _uidls(lines: list[str]) -> dict[str, str]:
    """What POP3 clients know each message by. A list from before version 2 is what Courier itself ignores."""
    if not lines or not _uidls_version(lines[0]):
        return {}
    found: dict[str, str] = {}
    for line in lines[1:]:
        parts = _uidl_line(line)
        if parts:
            base = filename.split(parts[1])[0]
            found[base] = _uidl(base, int(parts[2]), int(parts[3]))
    by_uidl = {uidl: base for base, uidl in found.items() if uidlist.is_uidl(uidl)}
    return {base: uidl for uidl, base in by_uidl.items()}


def _uidl(base: str, number: int, uidvalidity: int) -> str:
    if number:
        return f"UID{number}-{uidvalidity}" if uidvalidity else f"UID{number}"
    octets = os.fsencode(base).decode("latin-1")
    return "".join(c if _plain(c) and c not in "'\"+" else f"+{ord(c):02X}" for c in octets)


def _keywords(directory: str) -> dict[str, frozenset[str]]:
    lines = _lines(f"{directory}/:list")
    names: list[str] = []
    while lines and (name := lines.pop(0)):
        names.append(name)
    found: dict[str, frozenset[str]] = {}
    for line in lines:
        base, _, numbers = line.rpartition(":")
        given = [int(n) for n in numbers.split() if n.isdecimal() and len(n) < 6]
        found[base] = frozenset(names[n] for n in given if n < len(names))
    for base, update in _updates(directory).items():
        found[base] = frozenset(filter(None, _lines(f"{directory}/{update}")))
    return {base: keywords for base, keywords in found.items() if keywords}


def _updates(directory: str) -> dict[str, str]:
    """The newest file about each message, by base."""
    try:
        entries = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    newest: dict[str, tuple[float, str]] = {}
    for entry in entries:
        if entry.startswith(":"):
            continue
        numbered = _update(entry)
        base, age = (numbered[2], float(numbered[1])) if numbered else (entry, float("inf"))
        newest[base] = max(newest.get(base, (-1.0, "")), (age, entry))
    return {base: entry for base, (_, entry) in newest.items()}


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read().split("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
