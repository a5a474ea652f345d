"""``dovecot-uidlist``, version 3: which message has which UID, for good.

    3 V<uidvalidity> N<next uid> G<guid of the mailbox>
    <uid> [P<POP3 unique id>] [<other fields>] :<file name>

Version 1 (``1 <uidvalidity> <next uid>``, then ``<uid> <file name>``) is read too.

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
Entry = tuple[int, str, str]
"""UID, base, POP3 unique id; the last is empty for one that is made of UIDVALIDITY and UID."""

_header = re.compile(rb"([13]) ([^\r\n]*)\n").match
_line = re.compile(r"^(\d{1,10}) ((?:[^: \n][^ \n]* )*):([^\n]+)\n", re.MULTILINE)
_line_of_version_1 = re.compile(r"^(\d{1,10}) ()([^\n]+)\n", re.MULTILINE)
is_uidl = re.compile(r"[\x21-\x7e]{1,255}").fullmatch
is_guid = re.compile(r"[A-Za-z0-9_-]{1,255}").fullmatch  # RFC 8474 §7: objectid


@dataclass(frozen=True, slots=True)
class UidList:
    """What the file says. ``uids`` and ``uidls`` are by base; where a base stands twice the last line counts."""

    uidvalidity: int
    uidnext: int
    guid: str
    uids: dict[str, int]
    uidls: dict[str, str]
    torn_octets: int  # of a last line that was never completed
    is_old: bool  # version 1: nothing can be added before it is rewritten


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
    is_old = header[1] == b"1"
    said = header[2].decode("latin-1").split()
    fields = dict(zip("VN", said, strict=False)) if is_old else {field[:1]: field[1:] for field in said}
    if not (fields.get("V", "").isdecimal() and 0 < int(fields["V"]) < 2**32):
        return None
    uids: dict[str, int] = {}
    uidls: dict[str, str] = {}
    last = 0
    lines = _line_of_version_1 if is_old else _line
    for digits, others, name in lines.findall(data[header.end() :].decode("utf-8", "surrogateescape")):
        uid = int(digits)
        if 0 < uid <= LARGEST_UID:
            base = filename.split(name)[0]
            uids[base] = uid
            last = max(last, uid)
            if "P" in others and (uidl := _uidl(others)):
                uidls[base] = uidl
    if len(set(uids.values())) < len(uids):  # one UID cannot be two messages: the last one has it
        uids = {base: uid for uid, base in {uid: base for base, uid in uids.items()}.items()}
    stated = fields.get("N", "")
    uidnext = max(int(stated) if stated.isdecimal() and len(stated) <= 10 else 1, last + 1)
    guid = fields.get("G", "")
    return UidList(int(fields["V"]), min(uidnext, LARGEST_UID + 1), guid, uids, uidls, torn, is_old)


def line(uid: int, base: str, uidl: str = "") -> bytes:
    pop3 = f"P{uidl} " if uidl else ""
    return f"{uid} {pop3}:{base}\n".encode("utf-8", "surrogateescape")


def append(path: str, entries: Iterable[Entry]) -> None:
    """Adds lines, durably."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        with open(handle, "wb", closefd=False) as file:
            file.writelines(line(*entry) for entry in entries)
        os.fdatasync(handle)
    finally:
        os.close(handle)


def cut_torn_line(path: str, octets: int) -> None:
    if octets:
        os.truncate(path, os.stat(path).st_size - octets)


def rewrite(path: str, uidvalidity: int, uidnext: int, guid: str, entries: Iterable[Entry]) -> None:
    """The whole file anew, durably."""
    header = f"3 V{uidvalidity} N{uidnext} G{guid}\n".encode()
    replace_file(path, header + b"".join(line(*entry) for entry in sorted(entries)))


def _uidl(fields: str) -> str:
    found = next((field[1:] for field in fields.split(" ") if field.startswith("P")), "")
    return found if is_uidl(found) else ""
