"""What a session asks of the index: numbers, everything at first, then what changed since. Blocking."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.message.query import Ranges, resolve_ranges
from posthouse.protocols.imap.sequence import uid_slices
from posthouse.store import index, modseqs, sync
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.filename import DELETED, SEEN
from posthouse.store.index import Mailbox
from posthouse.store.layout import Folder
from posthouse.store.model import Missed, Status


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the index found: UIDs with flags, and ranges of UIDs that no message has any more.

    ``modseqs`` has the modification sequence of each of ``messages``, but for a first look.
    """

    box: Mailbox
    messages: list[tuple[int, int]]
    modseqs: dict[int, int]
    expunged: Ranges
    recent_from: int


def status(files: AccountFiles, name: str) -> Status:
    """The numbers of one mailbox. Changes nothing, ``\\Recent`` included."""
    folder = files.existing(name)
    with files.index.changing() as database:
        box = sync.synchronise(database, folder, files.host, move_new=False)
        messages, recent, unseen, size_bytes, deleted, deleted_bytes, unsized = database.execute(
            "SELECT count(*), coalesce(sum(uid >= ?), 0), coalesce(sum(flags & ? = 0), 0),"
            " coalesce(sum(coalesce(size, stored)), 0), coalesce(sum(flags & ? != 0), 0),"
            " coalesce(sum(CASE WHEN flags & ? THEN coalesce(size, stored) END), 0), count(*) - count(size)"
            " FROM message WHERE mailbox = ?",
            (box.first_recent, SEEN, DELETED, DELETED, box.id),
        ).fetchone()
    counted = (deleted, deleted_bytes, unsized)
    return Status(messages, recent, box.uidnext, box.uidvalidity, unseen, size_bytes, box.modseq, *counted, box.guid)


def first_look(files: AccountFiles, folder: Folder, read_only: bool) -> Look:
    """Everything. Claims what is recent for this session."""
    with files.index.changing() as database:
        box = sync.synchronise(database, folder, files.host, move_new=not read_only)
        query = "SELECT uid, flags FROM message WHERE mailbox = ? ORDER BY uid"
        messages = database.execute(query, (box.id,)).fetchall()
        recent_from = _claim_recent(database, box, read_only)
    files.keywords(folder)
    if files.fulltext is not None:
        files.fulltext.keep_up()
    return Look(box, messages, {}, (), recent_from)


def look(files: AccountFiles, folder: Folder, since: int, read_only: bool) -> Look:
    """What changed since. Claims what is recent for this session."""
    with files.index.changing() as database:
        box = sync.synchronise(database, folder, files.host, move_new=not read_only)
        # Left to itself SQLite would read every row, since they are in the order of UIDs.
        query = "SELECT uid, flags, modseq FROM message INDEXED BY message_modseq WHERE mailbox = ? AND modseq > ?"
        changed = sorted(database.execute(query, (box.id, since)))
        expunged: Ranges = ()
        if box.expunged > since:
            expunged = _gone_since(database, box, since, [uid for uid, _, _ in changed])
        recent_from = _claim_recent(database, box, read_only)
    files.keywords(folder)
    found = [(uid, mask) for uid, mask, _ in changed]
    return Look(box, found, {uid: modseq for uid, _, modseq in changed}, expunged, recent_from)


def missed(
    files: AccountFiles, folder: Folder, uidvalidity: int, uids: Sequence[int], since: int, ranges: Ranges | None
) -> Missed:
    """What somebody missed who knew the mailbox as of ``since``, as far as a view with these UIDs shows it.

    ``ranges`` are the UIDs he asks about. Raises FileNotFoundError where the mailbox is another.
    """
    with files.index.changing() as database:
        box = index.find_mailbox(database, folder.name)
        if box is None or box.uidvalidity != uidvalidity:
            raise FileNotFoundError(folder.path)
        since = modseqs.known(database, box.id, box.modseq, since)
        query = "SELECT uid, modseq FROM message INDEXED BY message_modseq WHERE mailbox = ? AND modseq > ?"
        changed = sorted(database.execute(query, (box.id, since)))
        expunged = modseqs.expunged_since(database, box.id, since)
    everything = ((1, box.uidnext - 1),) if box.uidnext > 1 else ()
    asked = everything if ranges is None else resolve_ranges(ranges, max(1, box.uidnext - 1))
    gone = modseqs.common(everything if expunged is None else expunged, asked)
    if ranges is not None:
        places = uid_slices(asked, [uid for uid, _ in changed])
        changed = [entry for part in places for entry in changed[part]]
    return Missed(
        tuple(entry for entry in changed if uid_slices(((entry[0], entry[0]),), uids)), modseqs.missing(gone, uids)
    )


def _gone_since(database: sqlite3.Connection, box: Mailbox, since: int, changed: list[int]) -> Ranges:
    """UIDs that went, but for those that stand for another message now."""
    expunged = modseqs.expunged_since(database, box.id, since)
    if expunged is not None:
        return modseqs.missing(expunged, changed)
    rows = database.execute("SELECT uid FROM message WHERE mailbox = ? ORDER BY uid", (box.id,))
    return modseqs.missing(((1, box.uidnext - 1),), [uid for (uid,) in rows])


def _claim_recent(database: sqlite3.Connection, box: Mailbox, read_only: bool) -> int:
    """The first UID that is recent here; a session that may write is the only one to see it so."""
    recent_from = box.first_recent
    if not read_only and recent_from < box.uidnext:
        box.first_recent = box.uidnext
        index.save_mailbox(database, box)
    return recent_from


def highest_modseq(files: AccountFiles, folder: Folder, uids: Sequence[int]) -> int:
    """The highest modification sequence among these messages, 0 where there are none."""
    query = (
        "SELECT max(modseq) FROM message WHERE mailbox = (SELECT id FROM mailbox WHERE folder = ?)"
        " AND uid IN (SELECT value FROM json_each(?))"
    )
    with files.index.reading() as database:
        return database.execute(query, (folder.name, json.dumps(list(uids)))).fetchone()[0] or 0


def uidls(files: AccountFiles, box: Mailbox) -> dict[int, str]:
    """POP3 unique ids, by UID, that another program had given before it was our turn."""
    with files.index.reading() as database:
        return dict(database.execute("SELECT uid, uidl FROM uidl WHERE mailbox = ?", (box.id,)))
