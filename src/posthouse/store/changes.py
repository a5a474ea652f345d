"""What a session changes in one mailbox: flags, expunges, new messages. Blocking.

Invariants:
  1. Each works on a mailbox that was brought up to date in the same ``Index.changing()``.
  2. The disk changes first. If then the index can't be written, it is behind, and catches up by itself.
  3. A file that another program renamed meanwhile is looked up anew; one that is gone is left out.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from posthouse.base.errors import TryLater
from posthouse.journal.operations import Append, Gone
from posthouse.store import expunged, filename, index, modseqs, quota, sync, uidlist
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.delivery import Form, form_of
from posthouse.store.errors import OverQuota
from posthouse.store.index import Mailbox
from posthouse.store.layout import Folder
from posthouse.store.model import Appended, NewMessage
from posthouse.store.quota import Limit

Mode = Literal["add", "remove", "replace"]


class Row(NamedTuple):
    """A message as the index has it."""

    uid: int
    flags: int
    place: str
    base: str
    info: str
    date: float
    stored: int
    size: int | None
    modseq: int

    @property
    def path(self) -> str:
        return f"{self.place}{self.base}{self.info}"


def rows(database: sqlite3.Connection, box: Mailbox, uids: Sequence[int] | None, mask: int = 0) -> list[Row]:
    """Messages by UID, ascending; all if ``uids`` is None; only those that have all flags of ``mask``."""
    query = (
        "SELECT uid, flags, place, base, info, date, stored, size, modseq FROM message"
        " WHERE mailbox = ? AND flags & ? = ?"
    )
    values: list[object] = [box.id, mask, mask]
    if uids is not None:
        query += " AND uid IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(list(uids)))
    return [Row._make(row) for row in database.execute(query + " ORDER BY uid", values)]


def require_room(files: AccountFiles, limit: Limit | None, size_bytes: int) -> None:
    """Raises OverQuota where that does not fit."""
    if limit and size_bytes > (left := quota.room(files.path, limit)):
        raise OverQuota(f"{files.path}: {size_bytes} octets into {left} of {limit}")


def append(files: AccountFiles, folder: Folder, messages: Sequence[NewMessage], limit: Limit | None) -> Appended:
    """Messages that are durable, with their UIDs, after one sync of the journal for each; all or none."""
    forms = [form_of(message.content, b"", files.host) for message in messages]
    stored = sum(form.stored for form in forms)
    require_room(files, limit, stored)
    done: Appended | None = None
    try:
        with files.index.changing() as database, sync.assigning(database, folder, files.host) as box:
            rows = _put_all(files, folder, box, messages, forms)
            done = Appended(box.uidvalidity, tuple(range(box.uidnext, box.uidnext + len(rows))))
            quota.add(files.path, stored, len(rows))
            box.uidnext += len(rows)
            box.modseq += 1
            index.add_messages(database, rows)
            sync.note_own_change(database, folder, box)
    except (sqlite3.Error, FileNotFoundError):
        if done is None:
            raise
    return done


def _put_all(
    files: AccountFiles, folder: Folder, box: Mailbox, messages: Sequence[NewMessage], forms: Sequence[Form]
) -> list[tuple[object, ...]]:
    """The messages' rows. What was put is taken back where another fails."""
    assert files.journal is not None, "nothing is appended without one"
    letters = files.keywords(folder)
    placed: list[str] = []
    rows: list[tuple[object, ...]] = []
    try:
        for uid, (message, form) in enumerate(zip(messages, forms, strict=True), box.uidnext):
            mask = letters.mask(message.flags)
            info = filename.info_with("", mask)
            put = form.put(folder.path, "cur", info, _mtime(message.internal_date))
            operations = [put, Append(folder.uidlist, uidlist.line(uid, form.base))]
            files.journal.commit_blocking(message.content, operations)
            placed.append(put.path)
            date = os.stat(put.path).st_mtime
            rows.append((box.id, uid, mask, box.modseq + 1, form.base, "cur/", info, date, form.stored, form.size))
    except OSError:
        _take_back(files, placed)
        raise
    return rows


def _take_back(files: AccountFiles, paths: Sequence[str]) -> None:
    assert files.journal is not None
    with contextlib.suppress(OSError):
        for path in paths:
            os.unlink(path)
        files.journal.commit_blocking(None, [Gone(path) for path in paths])


def _mtime(internal_date: datetime | None) -> float | None:
    """As far as every file system can keep it: 1970 to 2106."""
    return None if internal_date is None else min(max(internal_date.timestamp(), 0.0), 2.0**32 - 1)


def store_flags(
    files: AccountFiles,
    folder: Folder,
    uids: Sequence[int],
    flags: frozenset[str],
    mode: Mode,
    unchanged_since: int | None = None,
) -> tuple[dict[int, tuple[int, int]], list[int]]:
    """Each UID's new flags and modification sequence; and those that have changed since, and were left alone."""
    result: dict[int, tuple[int, int]] = {}
    modified: list[int] = []
    with files.index.changing() as database:
        changed = files.keywords(folder).mask(flags, add=mode != "remove")
        pending: Sequence[int] = uids
        for attempt in range(sync.ATTEMPTS):
            box = sync.synchronise(database, folder, files.host, move_new=True, force=attempt > 0)
            messages = rows(database, box, pending)
            if unchanged_since is not None:
                known = modseqs.known(database, box.id, box.modseq, unchanged_since)
                modified += [message.uid for message in messages if message.modseq > known]
                messages = [message for message in messages if message.modseq <= known]
            pending = _flag(database, folder, box, messages, changed, mode, result)
            if not pending:
                break
    return result, sorted(modified)


def _flag(
    database: sqlite3.Connection,
    folder: Folder,
    box: Mailbox,
    messages: list[Row],
    changed: int,
    mode: Mode,
    result: dict[int, tuple[int, int]],
) -> list[int]:
    """Renames what must be; returns the UIDs whose files were not found."""
    missing: list[int] = []
    renamed: list[tuple[int, str, int, int, int]] = []
    for message in messages:
        if mode == "add":
            mask = message.flags | changed
        elif mode == "remove":
            mask = message.flags & ~changed
        else:
            mask = changed
        if mask != message.flags:
            info = filename.info_with(message.info, mask)
            try:
                os.rename(f"{folder.path}/{message.path}", f"{folder.path}/cur/{message.base}{info}")
            except FileNotFoundError:
                missing.append(message.uid)
                continue
            renamed.append((mask, info, box.modseq + 1, box.id, message.uid))
        result[message.uid] = mask, message.modseq if mask == message.flags else box.modseq + 1
    if renamed:
        box.modseq += 1
        database.executemany(
            "UPDATE message SET flags = ?, place = 'cur/', info = ?, modseq = ? WHERE mailbox = ? AND uid = ?",
            renamed,
        )
        sync.note_own_change(database, folder, box)
    return missing


def expunge(files: AccountFiles, folder: Folder, uids: Sequence[int] | None) -> None:
    """Removes the messages that are flagged as deleted."""
    with files.index.changing() as database:
        for attempt in range(sync.ATTEMPTS):
            box = sync.synchronise(database, folder, files.host, move_new=True, force=attempt > 0)
            doomed = rows(database, box, uids, filename.DELETED)
            if not doomed or remove(files, database, folder, box, doomed, kept_days=files.undelete_days):
                if files.undelete_days:
                    expunged.purge_daily(files.path, files.undelete_days)
                return
    raise TryLater(f"{folder.path}: messages are renamed faster than they can be removed")


def discard(files: AccountFiles, folder: Folder, uids: Sequence[int]) -> None:
    """Removes messages, whatever their flags, as far as they are still there."""
    with files.index.changing() as database:
        for attempt in range(sync.ATTEMPTS):
            box = sync.synchronise(database, folder, files.host, move_new=True, force=attempt > 0)
            if remove(files, database, folder, box, rows(database, box, uids), kept_days=files.undelete_days):
                return
    raise TryLater(f"{folder.path}: a message is renamed faster than it can be removed")


def remove(
    files: AccountFiles,
    database: sqlite3.Connection,
    folder: Folder,
    box: Mailbox,
    doomed: list[Row],
    *,
    kept_days: int = 0,
) -> bool:
    """Unlinks messages, or sets them aside; whether all of them were found."""
    removed: list[Row] = []
    for message in doomed:
        try:
            if kept_days:
                expunged.set_aside(files.path, folder.name, f"{folder.path}/{message.path}")
            else:
                os.unlink(f"{folder.path}/{message.path}")
            removed.append(message)
        except FileNotFoundError:
            continue
    if removed:
        box.modseq += 1
        index.remove_messages(database, box, [message.uid for message in removed])
        sync.note_own_change(database, folder, box)
        quota.add(files.path, -sum(message.stored for message in removed), -len(removed))
    return len(removed) == len(doomed)
