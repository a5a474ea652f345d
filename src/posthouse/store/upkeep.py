"""What an operator does with one account's mailboxes: list, look for damage, mend, expire, put in. Blocking.

Invariants:
  1. All of it may be done while the server runs, which finds out as it finds out about any other program.
  2. No UID changes; what is added gets new ones.
"""

import hashlib
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.journal.content import Content
from posthouse.store import filename, folders, index, looking, quota, sync, uidlist
from posthouse.store.accountfiles import AccountFiles, is_mailbox
from posthouse.store.changes import remove, rows
from posthouse.store.crlf import to_crlf
from posthouse.store.delivery import form_of
from posthouse.store.layout import INBOX, SEPARATOR, Folder, canonical_name, make_folder, name_of, sync_directory
from posthouse.store.model import MailboxInfo, Status

_digest = re.compile(r"\.M0Q([0-9a-f]{24})\.posthouse,").search
TMP_SECONDS = 36 * 3600  # what is older in tmp/ never becomes a message (the Maildir specification)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that isn't as it should be. ``is_mended``: ``repair`` does that; otherwise ``advice`` says who."""

    path: str
    problem: str
    advice: str = ""

    @property
    def is_mended(self) -> bool:
        return not self.advice


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of a mailbox: all its octets as they are stored, its flags, and when it came (seconds)."""

    mailbox: str
    uid: int
    flags: frozenset[str]
    date: float
    path: str


def mailboxes(files: AccountFiles) -> list[tuple[MailboxInfo, Status]]:
    """All that hold messages, with their numbers."""
    return [(box, looking.status(files, box.name)) for box in folders.mailboxes(files) if box.selectable]


def letters(files: AccountFiles, name: str) -> Iterator[Letter]:
    """The messages of a mailbox by UID; one that is renamed or goes meanwhile is left out."""
    folder = files.existing(name)
    with files.index.changing() as database:
        box = sync.synchronise(database, folder, files.host, move_new=False)
        found = rows(database, box, None)
    keywords = files.keywords(folder)
    for row in found:
        yield Letter(name, row.uid, keywords.flags(row.flags), row.date, f"{folder.path}/{row.path}")


class Putting:
    """Adds messages, as another Maildir program would. Each has the digest of its octets in its name, by which it is
    known again whatever its flags are by then: what has been put there before is not put there twice, unless
    ``knows_again`` is False."""

    def __init__(self, files: AccountFiles, *, knows_again: bool = True) -> None:
        self._files = files
        self._knows_again = knows_again
        self._known: dict[str, set[str]] = {}

    def put(self, name: str, data: bytes, flags: frozenset[str], date: float) -> bool:
        """Adds a message, durably, to a mailbox that is made if need be; whether it was not there yet.

        ``date`` is in seconds since the epoch. Raises BadMailboxName, OSError.
        """
        files = self._files
        folder = files.folder(canonical_name(name))
        if not is_mailbox(folder.path):
            make_folder(folder)
        data = to_crlf(data)
        digest = hashlib.sha256(data).hexdigest()[:24]
        known = self._known.get(folder.name)
        if known is None:
            paths = (path for place in ("cur", "new") for path in folder.names(place))
            known = self._known[folder.name] = {found[1] for path in paths if (found := _digest(path))}
        if digest in known and self._knows_again:
            return False
        content = Content.of(data)
        form = form_of(content, b"", files.host)
        base = form.base
        if digest not in known:
            base = f"{max(0, int(date))}.M0Q{digest}.posthouse,S={form.stored},W={form.size}"
        temporary = f"{folder.tmp}/{filename.unique_base(files.host, time.time_ns())}"
        target = f"{folder.path}/cur/{base}{filename.info_with('', files.keywords(folder).mask(flags))}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.writelines(content.chunks(lf=form.lf))
            file.flush()
            os.fsync(file.fileno())
        os.utime(temporary, (max(0.0, date), max(0.0, date)))
        os.rename(temporary, target)
        sync_directory(f"{folder.path}/cur")
        quota.add(files.path, form.stored, 1)
        known.add(digest)
        return True


def expire(files: AccountFiles, name: str, days: int) -> int:
    """Removes what was put into a mailbox or one below it, or flagged last, more than so many days ago; how many.

    That is the files' ctime: a message that is moved keeps its date, and one from a backup is not older than that.
    """
    limit = time.time() - days * 86_400
    count = 0
    for mailbox in (INBOX, *folders.existing_names(files)):
        if mailbox != name and not mailbox.startswith(name + SEPARATOR):
            continue
        folder = files.existing(mailbox)
        with files.index.changing() as database:
            box = sync.synchronise(database, folder, files.host, move_new=True)
            doomed = [row for row in rows(database, box, None) if _ctime(f"{folder.path}/{row.path}") <= limit]
            remove(files, database, folder, box, doomed, kept_days=files.undelete_days)
            count += len(doomed)
    return count


def check(files: AccountFiles) -> list[Finding]:
    """Looks at everything, changes nothing."""
    owner = os.lstat(files.path).st_uid
    found = list(_check_index(files))
    seen: dict[str, str] = {}
    for entry in ["", *sorted(os.listdir(files.path))]:
        folder = Folder(f"{files.path}/{entry}" if entry else files.path, entry)
        if entry and not (entry.startswith(SEPARATOR) and os.path.isdir(f"{folder.path}/cur")):
            continue
        name = name_of(entry) if entry else INBOX
        if name is None or os.path.islink(folder.path):
            found.append(Finding(folder.path, "is not shown as a mailbox", "rename it"))
            continue
        if name in seen:
            advice = f"move its messages to {seen[name]}"
            found.append(Finding(folder.path, f"stands for the mailbox {name!r}, too", advice))
        seen[name] = files.folder(name).path
        found += _check_folder(folder, owner)
    return found


def repair(files: AccountFiles, limit: quota.Limit | None) -> None:
    """Mends what ``check`` finds and can be mended: index and UID list by each other, leftovers go, the quota is
    counted."""
    if _damage(files):
        files.index.discard()
    for name in (INBOX, *folders.existing_names(files)):
        folder = files.folder(name)
        for path in _leftovers(folder):
            os.unlink(path)
        with files.index.changing() as database:
            if box := index.find_mailbox(database, folder.name):
                box.stamp = index.UNKNOWN
                index.save_mailbox(database, box)
            sync.synchronise(database, folder, files.host, move_new=False, force=True)
    if limit is not None:
        quota.recount(files.path, limit)


def _check_index(files: AccountFiles) -> Iterator[Finding]:
    if damage := _damage(files):
        yield Finding(files.index.path, f"is damaged: {damage}")
    elif os.path.exists(files.index.path):
        with files.index.changing() as database:  # or UIDs would be given meanwhile
            for name in (INBOX, *folders.existing_names(files)):
                if _differs(database, files.folder(name)):
                    yield Finding(files.index.path, f"knows other UIDs of {name!r} than its uidlist")


def _damage(files: AccountFiles) -> str:
    """What is wrong with the index, as SQLite or we see it; empty where it is whole or there is none."""
    if not os.path.exists(files.index.path):
        return ""
    try:
        with files.index.reading() as database:
            (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            for name in (INBOX, *folders.existing_names(files)):
                index.find_mailbox(database, files.folder(name).name)
    except (sqlite3.Error, ValueError, TypeError) as error:
        return str(error)
    return "" if said == "ok" else str(said)


def _differs(database: sqlite3.Connection, folder: Folder) -> bool:
    """Whether the index is wrong where it believes to be up to date."""
    box = index.find_mailbox(database, folder.name)
    listed = uidlist.read(folder.uidlist)
    if box is None or listed is None or box.stamp.uidlist != folder.stamp().uidlist:
        return False
    entries = index.entries(database, box)
    return box.uidvalidity != listed.uidvalidity or any(listed.uids.get(base) != uid for uid, base, _ in entries)


def _check_folder(folder: Folder, owner: int) -> Iterator[Finding]:
    if os.path.exists(folder.uidlist):
        listed = uidlist.read(folder.uidlist)
        if listed is None:
            yield Finding(folder.uidlist, "can't be read")
        elif listed.torn_octets:
            yield Finding(folder.uidlist, "its last line is not complete")
    for place in ("cur", "new"):
        for name in sorted(os.listdir(f"{folder.path}/{place}")):
            yield from _check_message(f"{folder.path}/{place}/{name}", owner)
    for path in _leftovers(folder):
        yield Finding(path, "was left behind by a delivery that broke off")


def _check_message(path: str, owner: int) -> Iterator[Finding]:
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(state.st_mode):
        yield Finding(path, "is not a file", "move it away")
    elif not filename.is_message(os.path.basename(path)):
        yield Finding(path, "is not shown, because of its name", "rename it")
    elif state.st_uid != owner:
        yield Finding(path, f"belongs to uid {state.st_uid}", f"chown it to uid {owner}, as its Maildir")
    elif state.st_mode & 0o600 != 0o600:
        yield Finding(path, f"its owner has no right to it ({state.st_mode & 0o777:03o})", "chmod 600")


def _leftovers(folder: Folder) -> Iterator[str]:
    try:
        entries = sorted(os.listdir(folder.tmp))
    except FileNotFoundError:
        return
    for name in entries:
        path = f"{folder.tmp}/{name}"
        if os.path.isfile(path) and not os.path.islink(path) and time.time() - _ctime(path) > TMP_SECONDS:
            yield path


def _ctime(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except FileNotFoundError:
        return time.time()
