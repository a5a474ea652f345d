"""``dovecot-uidlist``, version 3: which message has which UID, for good.

    3 V<uidvalidity> N<next uid> G<guid of the mailbox>
    <uid> [<other fields>] :<file name>

Lines are added at the end; the header's ``N`` is what it was when the file was last rewritten. All changes
happen under the file's dotlock.

Invariants:
  1. A UID is on disk here before anybody outside is told of it.
  2. A last line without its LF was never told to anybody: it is cut off before anything is added.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from posthouse.store import filename
from posthouse.store.layout import replace_file

LARGEST_UID = 2**32 - 2
_header = re.compile(rb"3 ([^\r\n]*)\n").match
_line = re.compile(r"^(\d{1,10}) (?:[^:\n]* )?:([^\n]+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class UidList:
    """What the file says. ``uids`` is by base; where a base stands twice the last line counts."""

    uidvalidity: int
    uidnext: int
    guid: str
    uids: dict[str, int]
    torn_octets: int  # of a last line that was never completed


def read(path: str) -> UidList | None:
    """None where there is none, or its header can't be read."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    torn = len(data) - data.rfind(b"\n") - 1
    if b"\0" in data:  # blocks that a crash left empty
        data = data.replace(b"\0", b"")
    header = _header(data)
    if header is None:
        return None
    fields = {field[:1]: field[1:] for field in header[1].decode("latin-1").split()}
    if not (fields.get("V", "").isdecimal() and 0 < int(fields["V"]) < 2**32):
        return None
    uids: dict[str, int] = {}
    last = 0
    for digits, name in _line.findall(data[header.end() :].decode("utf-8", "surrogateescape")):
        uid = int(digits)
        if 0 < uid <= LARGEST_UID:
            uids[filename.split(name)[0]] = uid
            last = max(last, uid)
    if len(set(uids.values())) < len(uids):  # one UID cannot be two messages: the last one has it
        uids = {base: uid for uid, base in {uid: base for base, uid in uids.items()}.items()}
    stated = fields.get("N", "")
    uidnext = max(int(stated) if stated.isdecimal() and len(stated) <= 10 else 1, last + 1)
    return UidList(int(fields["V"]), min(uidnext, LARGEST_UID + 1), fields.get("G", ""), uids, torn)


def line(uid: int, base: str) -> bytes:
    return f"{uid} :{base}\n".encode("utf-8", "surrogateescape")


def append(path: str, entries: Iterable[tuple[int, str]]) -> None:
    """Adds lines, durably."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        with open(handle, "wb", closefd=False) as file:
            file.writelines(line(uid, base) for uid, base in entries)
        os.fdatasync(handle)
    finally:
        os.close(handle)


def cut_torn_line(path: str, octets: int) -> None:
    if octets:
        os.truncate(path, os.stat(path).st_size - octets)


def rewrite(path: str, uidvalidity: int, uidnext: int, guid: str, entries: Iterable[tuple[int, str]]) -> None:
    """The whole file anew, durably."""
    header = f"3 V{uidvalidity} N{uidnext} G{guid}\n".encode()
    replace_file(path, header + b"".join(line(uid, base) for uid, base in sorted(entries)))
