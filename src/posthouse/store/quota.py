"""Quota as Maildir++ counts it, in ``maildirsize``, together with maildrop, Courier and Dovecot.

    <limit as text, "10485760S,1000C">
    <octets> <messages>            the last full count
    <octets> <messages>            what came (or, negative, went) since, a line each

Every message of every folder counts, Trash too, as Dovecot does it. The file exists only where there is a quota;
without it nothing is counted. It is an estimate between full counts: lines are appended without a lock.
"""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.runtime.log import log
from posthouse.store import filename

FILE_NAME = "maildirsize"
LONGEST_OCTETS = 5120  # past this the file is counted anew
OLDEST_SECONDS = 15 * 60  # a file that says "full" is believed no longer
_limit = re.compile(r"(\d{1,18})([SC]?)").fullmatch
_stored = re.compile(r",S=(\d{1,15})(?:,|$)").search


@dataclass(frozen=True, slots=True)
class Limit:
    """Octets and messages that an account may have; 0 is no limit."""

    size_bytes: int
    messages: int

    def __str__(self) -> str:
        parts = (f"{self.size_bytes}S" if self.size_bytes else "", f"{self.messages}C" if self.messages else "")
        return ",".join(filter(None, parts))


def parse(text: str) -> Limit | None:
    """The limit of ``10485760S,1000C`` or plain octets; None where there is none."""
    values = {"S": 0, "C": 0}
    for field in filter(None, text.replace(" ", "").split(",")):
        found = _limit(field)
        if found is None:
            log.warning("quota-unreadable", quota=text)
            return None
        values[found[2] or "S"] = int(found[1])
    limit = Limit(values["S"], values["C"])
    return limit if limit.size_bytes or limit.messages else None


def room(account_path: str, limit: Limit) -> int:
    """Octets that are left, 0 where the account is full. Counts everything when it must."""
    path = f"{account_path}/{FILE_NAME}"
    found, is_old = _read(path, limit)
    if found is None or (is_old and _left(limit, *found) == 0):
        found = _count(account_path)
        _write(path, limit, found)
    return _left(limit, *found)


def recount(account_path: str, limit: Limit) -> None:
    """Counts everything, whatever the file says."""
    _write(f"{account_path}/{FILE_NAME}", limit, _count(account_path))


def used(account_path: str, limit: Limit) -> tuple[int, int] | None:
    """Octets and messages as the file has them; None where it can't be used. Neither counts nor writes.

    Raises ``OSError``.
    """
    return _read(f"{account_path}/{FILE_NAME}", limit)[0]


def add(account_path: str, size_bytes: int, messages: int) -> None:
    """Says what came or went, where anybody counts."""
    try:
        handle = os.open(f"{account_path}/{FILE_NAME}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(handle, b"%d %d\n" % (size_bytes, messages))
    finally:
        os.close(handle)


def _left(limit: Limit, size_bytes: int, messages: int) -> int:
    if limit.messages and messages >= limit.messages:
        return 0
    return max(0, limit.size_bytes - size_bytes) if limit.size_bytes else 2**62


def _read(path: str, limit: Limit) -> tuple[tuple[int, int] | None, bool]:
    """What the file adds up to, None if it can't be used; and whether it is too old to refuse by."""
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST_OCTETS)
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None, True
    first, _, rest = data.partition(b"\n")
    if len(data) >= LONGEST_OCTETS or parse(first.decode("latin-1")) != limit:
        return None, True
    size_bytes = messages = 0
    for line in rest.split(b"\n"):
        fields = line.split()
        if len(fields) == 2 and all(re.fullmatch(rb"-?\d{1,18}", field) for field in fields):
            size_bytes += int(fields[0])
            messages += int(fields[1])
    return (size_bytes, messages), age > OLDEST_SECONDS


def _write(path: str, limit: Limit, used: tuple[int, int]) -> None:
    temporary = f"{path}.{filename.unique_base('tmp', time.time_ns())}"
    with open(temporary, "wb", opener=_private) as file:
        file.write(f"{limit}\n{used[0]} {used[1]}\n".encode())
    os.replace(temporary, path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _count(account_path: str) -> tuple[int, int]:
    size_bytes = messages = 0
    for directory in directories(account_path):
        for name in os.listdir(directory):
            if filename.is_message(name):
                size_bytes += _size(directory, name)
                messages += 1
    return size_bytes, messages


def _size(directory: str, name: str) -> int:
    stated = _stored(filename.split(name)[0])
    if stated:
        return int(stated[1])
    try:
        return os.lstat(f"{directory}/{name}").st_size
    except FileNotFoundError:
        return 0


def directories(account_path: str) -> Iterator[str]:
    """Every new/ and cur/ of the account."""
    with os.scandir(account_path) as entries:
        folders = [entry.path for entry in entries if entry.name[0] == "." and entry.is_dir(follow_symlinks=False)]
    for folder in (account_path, *folders):
        for place in ("new", "cur"):
            if os.path.isdir(f"{folder}/{place}"):
                yield f"{folder}/{place}"
