"""Messages that come from somewhere else, or go there: mbox files, Maildirs, .eml files and ZIP archives of these.

Invariants:
  1. A name in an archive is a mailbox's name at most; no file is written by it.
  2. No more than ``LARGEST_BYTES`` of a message is held, whatever the archive says of it and however long its lines
     are; what is packed more than ``LARGEST_RATIO`` to one is not unpacked.
"""

import os
import re
import zipfile
import zlib
from calendar import timegm
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO

from posthouse.store import filename, mboxformat
from posthouse.store.keywords import Keywords
from posthouse.store.layout import INBOX, SEPARATOR, Folder, name_of

LARGEST_BYTES = 256 * 1024 * 1024
LARGEST_RATIO = 200  # deflate makes 1,032 to one of zeros; mail hardly ever gives 20
_SMALL_BYTES = 1024 * 1024  # so much may be packed as it likes
_eml = re.compile(r"(?:.*?(?:,([DFRST]*))?)\.eml", re.IGNORECASE).fullmatch
_MAILDIR = {"S": "\\Seen", "R": "\\Answered", "F": "\\Flagged", "D": "\\Draft", "T": "\\Deleted"}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message to be put into a mailbox; ``date`` in seconds since the epoch. Or ``problem``: why it isn't."""

    origin: str
    mailbox: str
    data: bytes = b""
    flags: frozenset[str] = frozenset()
    date: float = 0.0
    problem: str = ""


def arrivals(path: str, file: BinaryIO | None, mailbox: str) -> Iterator[Arrival]:
    """What is in a directory (a Maildir, or .eml files) or, open, in a file: ZIP, .eml or mbox.

    ``mailbox`` is where it goes; folders of a Maildir or an archive keep their names where that is INBOX, and come
    below it otherwise. Raises OSError.
    """
    if file is None:
        return _maildir(path, mailbox) if os.path.isdir(f"{path}/cur") else _directory(path, mailbox)
    if path.lower().endswith(".zip"):
        return _archive(file, path, mailbox)
    if path.lower().endswith(".eml"):
        return iter([_whole(file, path, mailbox, os.fstat(file.fileno()).st_mtime)])
    return _mbox(file, path, mailbox)


def _below(mailbox: str, parts: Iterable[str]) -> str:
    """``INBOX`` on top stands for the mailbox itself."""
    names = [part.replace(SEPARATOR, "_") for part in parts if part]
    if names[:1] == [INBOX]:
        names = names[1:]
    if mailbox == INBOX:
        return SEPARATOR.join(names) or INBOX
    return SEPARATOR.join([mailbox, *names])


def _whole(file: IO[bytes], origin: str, mailbox: str, date: float, letters: str = "") -> Arrival:
    data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        return Arrival(origin, mailbox, problem=f"is longer than {LARGEST_BYTES} octets")
    return Arrival(origin, mailbox, data, frozenset(_MAILDIR[letter] for letter in letters), date)


def _directory(path: str, mailbox: str) -> Iterator[Arrival]:
    for place, directories, names in os.walk(path):
        directories.sort()
        parts = os.path.relpath(place, path).split(os.sep) if place != path else []
        for name in sorted(names):
            if found := _eml(name):
                full = f"{place}/{name}"
                with open(full, "rb") as file:
                    date = os.fstat(file.fileno()).st_mtime
                    yield _whole(file, full, _below(mailbox, parts), date, found[1] or "")


def _maildir(path: str, mailbox: str) -> Iterator[Arrival]:
    for entry in ["", *sorted(os.listdir(path))]:
        name = name_of(entry) if entry else INBOX
        if name is None or not os.path.isdir(f"{path}/{entry}/cur"):
            continue
        folder = Folder(f"{path}/{entry}".rstrip("/"), entry)
        keywords = Keywords(folder.keywords)
        target = _below(mailbox, name.split(SEPARATOR))
        for relative in sorted(folder.names("cur") + folder.names("new")):
            full = f"{folder.path}/{relative}"
            try:
                with open(full, "rb") as file:
                    arrival = _whole(file, full, target, os.fstat(file.fileno()).st_mtime)
            except FileNotFoundError:  # renamed, or gone
                yield Arrival(full, target, problem="is not there any more")
                continue
            flags = keywords.flags(filename.mask_of(filename.split(relative[4:])[1]))
            yield Arrival(full, target, arrival.data, flags, arrival.date, arrival.problem)


def _archive(file: BinaryIO, path: str, mailbox: str) -> Iterator[Arrival]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        yield Arrival(path, mailbox, problem=f"is no ZIP archive: {error}")
        return
    with archive:
        for entry in archive.infolist():
            *parts, name = entry.filename.split("/")
            is_mbox = name.lower().endswith(".mbox")
            found = _eml(name)
            if entry.is_dir() or not (found or is_mbox):
                continue
            if entry.file_size > max(_SMALL_BYTES, LARGEST_RATIO * entry.compress_size):
                yield Arrival(entry.filename, mailbox, problem="is packed as no mail is: a trap?")
                continue
            date = float(timegm((*entry.date_time, 0, 0, 0)))
            try:
                with archive.open(entry) as packed:
                    if is_mbox:
                        yield from _mbox(packed, entry.filename, _below(mailbox, [*parts, name[:-5]]))
                    else:
                        letters = (found and found[1]) or ""
                        yield _whole(packed, entry.filename, _below(mailbox, parts), date, letters)
            except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
                yield Arrival(entry.filename, mailbox, problem=f"can't be unpacked: {error}")


def _mbox(file: IO[bytes], origin: str, mailbox: str) -> Iterator[Arrival]:
    try:
        for number, (_, raw) in enumerate(mboxformat.segments(file, LARGEST_BYTES), 1):
            where = f"{origin}, message {number}"
            if raw is None:
                yield Arrival(where, mailbox, problem=f"is longer than {LARGEST_BYTES} octets")
            elif not (message := mboxformat.parsed(raw)).is_internal:
                yield Arrival(where, mailbox, message.data, message.flags, message.date)
    except mboxformat.NoMbox:
        yield Arrival(origin, mailbox, problem="is no mbox file: it does not begin with a 'From ' line")


def eml_name(uid: int, flags: frozenset[str]) -> str:
    """What a message is called in an archive, its flags included."""
    letters = "".join(sorted(letter for letter, name in _MAILDIR.items() if name in flags))
    return f"{uid:010},{letters}.eml"
