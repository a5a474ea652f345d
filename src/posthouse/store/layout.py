"""Where things lie in a Maildir++ directory.

The account's directory is INBOX; every other mailbox is a directory ``.A.B`` in it, named in modified UTF-7, as
Dovecot and the Courier of before 5.0 have it. What a later Courier named in UTF-8 keeps that name.

Invariants:
  1. A mailbox name stands for one directory name and the other way round; neither leads out of the account.
  2. Directories are 0700, files 0600.
"""

import os
import re
import zlib
from dataclasses import dataclass

from posthouse.base.errors import TryLater
from posthouse.protocols.imap import mutf7
from posthouse.store import filename
from posthouse.store.errors import BadMailboxName

INBOX = "INBOX"
SEPARATOR = "."
MIRROR_SUFFIX = ":posthouse"  # of the Maildir that shows an mbox file; no address becomes such a name
LONGEST_FOLDER = 240  # octets; file systems take 255
_forbidden = re.compile("[/\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


def canonical_name(name: str) -> str:
    """The name as we spell it: INBOX in upper case. Raises BadMailboxName."""
    if name.upper() == INBOX:
        return INBOX
    if _forbidden(name):
        raise BadMailboxName(name, "Mailbox names may not have control characters or slashes")
    if not all(name.split(SEPARATOR)):
        raise BadMailboxName(name, "Mailbox names may not have empty parts")
    if len(mutf7.encode(name)) >= LONGEST_FOLDER:
        raise BadMailboxName(name, "This mailbox name is too long")
    return name


def folder_of(name: str) -> str:
    """The directory that a canonical name is given, relative to the account; empty for INBOX."""
    return "" if name == INBOX else SEPARATOR + mutf7.encode(name).decode("ascii")


def name_of(folder: str) -> str | None:
    """The mailbox that a directory entry stands for, or None where it is none of ours."""
    name = decoded_name(folder[1:]) if folder.startswith(SEPARATOR) else None
    return None if name == INBOX else name


def decoded_name(written: str) -> str | None:
    """The mailbox whose name is written so: in modified UTF-7 or, as Courier does from 5.0 on, in UTF-8."""
    try:
        name = mutf7.decode(written.encode("ascii"))
    except ValueError:
        name = written
    try:
        return name if canonical_name(name) == name else None
    except BadMailboxName:
        return None


def find_folder(account: str, name: str) -> "Folder":
    """Where a canonical name's mailbox is, or would be made."""
    directory = folder_of(name)
    if not directory:
        return Folder(account, "")
    if directory[1:] != name and not os.path.lexists(f"{account}/{directory}"):
        as_courier = SEPARATOR + name
        if os.path.lexists(f"{account}/{as_courier}"):
            directory = as_courier
    return Folder(f"{account}/{directory}", directory)


def account_path(mail_root: str, maildir: str) -> str:
    """The account's directory, absolute. Raises TryLater where ``maildir`` is not a Maildir below the root."""
    if not maildir.endswith("/"):
        raise TryLater(f"maildir {maildir!r} does not end in '/'")
    parts = maildir.rstrip("/").split("/")
    if "\0" in maildir or any(part in ("", ".", "..") for part in parts):
        raise TryLater(f"maildir {maildir!r} is not a path below the mail root")
    root = os.path.realpath(mail_root)
    path = os.path.join(root, *parts)
    if os.path.realpath(path) != path:
        raise TryLater(f"maildir {maildir!r} leads through a symbolic link")
    return path


@dataclass(frozen=True, slots=True)
class Stamp:
    """What ``stat`` says of new/, cur/ and the uidlist: the same stamp, the same content, but for clock ticks."""

    new: tuple[int, int]  # mtime in ns, inode
    cur: tuple[int, int]
    uidlist: tuple[int, int, int]  # mtime in ns, inode, size; zeros where there is none


@dataclass(frozen=True, slots=True)
class Folder:
    """One mailbox's directory; ``name`` is relative to the account's. ``mbox`` is the file that it shows, if any."""

    path: str
    name: str
    mbox: str = ""

    @property
    def watched(self) -> list[str]:
        """Directories in which something changes when the mailbox does."""
        return [f"{self.path}/new", f"{self.path}/cur", *([os.path.dirname(self.mbox)] if self.mbox else [])]

    @property
    def tmp(self) -> str:
        return f"{self.path}/tmp"  # noqa: S108 (a Maildir's own)

    @property
    def uidlist(self) -> str:
        return f"{self.path}/dovecot-uidlist"

    @property
    def keywords(self) -> str:
        return f"{self.path}/dovecot-keywords"

    def stamp(self) -> Stamp:
        """Raises FileNotFoundError where there is no such mailbox."""
        new = os.stat(f"{self.path}/new")
        cur = os.stat(f"{self.path}/cur")
        try:
            uidlist = os.stat(self.uidlist)
            listed = (uidlist.st_mtime_ns, uidlist.st_ino, uidlist.st_size)
        except FileNotFoundError:
            listed = (0, 0, 0)
        inode = new.st_ino + (_number(self.mbox) << 64 if self.mbox else 0)
        return Stamp((new.st_mtime_ns, inode), (cur.st_mtime_ns, cur.st_ino), listed)

    def names(self, place: str) -> list[str]:
        """The messages in ``new`` or ``cur``, each as ``place/name``."""
        prefix = place + "/"
        return [prefix + name for name in os.listdir(f"{self.path}/{place}") if filename.is_message(name)]


def _number(path: str) -> int:
    """Another one when the file is another, or has changed."""
    try:
        state = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return zlib.crc32(f"{state.st_mtime_ns} {state.st_ino} {state.st_size}".encode())


def make_folder(folder: Folder) -> None:
    """Makes the directory and its cur/, new/ and tmp/, as far as they are missing."""
    _make_directories(folder.path)
    for part in ("tmp", "new", "cur"):
        try:
            os.mkdir(f"{folder.path}/{part}", 0o700)
        except FileExistsError:
            pass
    if folder.name:
        # Courier's mark of a folder, so that programs that deliver know where the account begins.
        os.close(os.open(f"{folder.path}/maildirfolder", os.O_CREAT | os.O_WRONLY, 0o600))


def make_parents(path: str) -> None:
    """Makes the directories that a file is to lie in, as far as they are missing."""
    _make_directories(os.path.dirname(path))


def _make_directories(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_directories(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # another process was quicker
            pass


def replace_file(path: str, data: bytes) -> None:
    """Puts a new file in the place of an old one, durably. The caller holds the file's lock."""
    temporary = f"{path}.tmp"
    handle = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Makes names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
