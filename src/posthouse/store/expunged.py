"""Expunged messages, kept aside for ``mail.undelete_days``. Blocking.

``posthouse-expunged/<folder>/<when>.<name>``: ``folder`` is the directory's name or ``INBOX``, ``when`` in seconds
since the epoch, ``name`` as it was in cur/, shortened if need be. No quota counts them and no other Maildir program
sees them.

Invariant: a message is at any time in its mailbox or here, or it is expunged for good.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.store import filename, quota
from posthouse.store.layout import INBOX, Folder, find_folder, make_folder, name_of, sync_directory

DIRECTORY = "posthouse-expunged"
DAY_SECONDS = 86_400
BASE_OCTETS = 200  # a name has room for 255: here the time comes in front


@dataclass(frozen=True, slots=True)
class Expunged:
    """``expunged_at`` in seconds since the epoch, ``stored`` in octets."""

    mailbox: str
    expunged_at: int
    stored: int
    path: str


def set_aside(account_path: str, folder_name: str, path: str) -> None:
    """Takes a message out of its mailbox. Raises FileNotFoundError where it is gone."""
    directory = f"{account_path}/{DIRECTORY}/{folder_name or INBOX}"
    base, info = filename.split(os.path.basename(path))
    target = f"{directory}/{int(time.time())}.{os.fsdecode(os.fsencode(base)[:BASE_OCTETS])}{info}"
    try:
        os.rename(path, target)
    except FileNotFoundError:
        os.makedirs(directory, 0o700, exist_ok=True)
        os.rename(path, target)


def listing(account_path: str) -> Iterator[Expunged]:
    """What is kept, mailbox by mailbox, the oldest first."""
    root = f"{account_path}/{DIRECTORY}"
    for directory in _entries(root):
        mailbox = INBOX if directory == INBOX else name_of(directory)
        if mailbox is None:
            continue
        for name in _entries(f"{root}/{directory}"):
            when, _, rest = name.partition(".")
            path = f"{root}/{directory}/{name}"
            with contextlib.suppress(FileNotFoundError):
                if when.isdecimal() and rest:
                    yield Expunged(mailbox, int(when), os.lstat(path).st_size, path)


def restore(account_path: str, host: str, message: Expunged) -> str:
    """Puts a message back, with its flags but ``\\Deleted`` and as a new one; its path."""
    folder = find_folder(account_path, message.mailbox)
    is_new = not os.path.isdir(f"{folder.path}/cur")
    if is_new:
        make_folder(folder)
    old, info = filename.split(os.path.basename(message.path).partition(".")[2])
    # Keywords are letters of the folder that is gone.
    known = filename.mask_of(info) & ~filename.DELETED
    mask = known & ((1 << filename.KEYWORD_SHIFT) - 1) if is_new else known
    sizes = old.partition(",")[1:]
    base = filename.unique_base(host, time.time_ns()) + "".join(sizes)
    path = f"{folder.path}/cur/{base}{filename.info_with('', mask)}"
    os.rename(message.path, path)
    sync_directory(f"{folder.path}/cur")
    quota.add(account_path, message.stored, 1)
    return path


def purge(account_path: str, days: int) -> int:
    """Removes for good what was expunged more than so many days ago; how many."""
    limit = time.time() - days * DAY_SECONDS
    count = 0
    for message in listing(account_path):
        if message.expunged_at <= limit:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(message.path)
                count += 1
    return count


def purge_daily(account_path: str, days: int) -> None:
    """``purge``, where the last time was not today."""
    marker = f"{account_path}/{DIRECTORY}/purged"
    try:
        if time.time() - os.stat(marker).st_mtime < DAY_SECONDS:
            return
    except FileNotFoundError:
        if not os.path.isdir(f"{account_path}/{DIRECTORY}"):
            return
    os.close(os.open(marker, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    os.utime(marker)
    purge(account_path, days)


def set_aside_folder(account_path: str, folder: Folder, name: str) -> None:
    """All messages of a folder that is about to go; ``name`` is the directory's of before."""
    for place in ("cur", "new"):
        for path in folder.names(place):
            with contextlib.suppress(FileNotFoundError):
                set_aside(account_path, name, f"{folder.path}/{path}")


def _entries(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
