"""Brings the index up to date with a mailbox's directory.

The directory belongs to everybody: deliveries and other programs add, rename and delete files at any moment and
take no lock. What follows from that:

  - A directory's mtime says that something changed, but only as finely as the kernel's clock ticks. A directory
    that was read within ``TICK_NS`` of its mtime is read again the next time, whatever its mtime then says.
  - After a change of our own the mtime is ours; a foreign change just before it would hide behind it. We believe
    it for now, and read the directory once more after ``SETTLE_NS``.
  - new/ is read before cur/: a file that moves from one to the other meanwhile is seen twice, never not at all.
  - readdir may miss a file that is renamed while it runs. What is missing is looked for in a second reading
    before it counts as expunged.
  - A file seen under two names is mostly one that was renamed between the two: its present name is what counts.
    If both are there, one is the rest of an interrupted link, or a different message that gets a name of its own.
  - UIDs are given under the uidlist's dotlock, which other programs respect, and inside ``Index.changing()``,
    which our processes do. A UID that the index doesn't know is taken from the uidlist if it is not lower than
    the index's next one (a crash took the row, or another program was here); lower ones are of messages that
    were expunged, and a file that reappears is a new message.

Invariants:
  1. Directories are stamped before they are read: what changes after that is found the next time.
  2. A UID is on disk in the uidlist before its row is written.
  3. UIDs of what stays don't change, whichever of index and uidlist is lost; if both are, neither does
     UIDVALIDITY stay.
"""

import contextlib
import os
import sqlite3
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from posthouse.base.errors import TryLater
from posthouse.store import courier, filename, index, modseqs, uidlist
from posthouse.store.dotlock import Dotlock
from posthouse.store.index import Mailbox
from posthouse.store.layout import Folder, Stamp

TICK_NS = 20_000_000
SETTLE_NS = 1_000_000_000
COMPACT_OCTETS = 65_536
ATTEMPTS = 5
_NEVER = (0, 0)


def synchronise(
    database: sqlite3.Connection, folder: Folder, host: str, *, move_new: bool, force: bool = False
) -> Mailbox:
    """The mailbox's row, true to the disk. Inside ``Index.changing()``.

    ``move_new``: messages in new/ go to cur/, which a read-only session must not do. ``force``: read both
    directories, whatever their stamps. Raises FileNotFoundError where there is no such mailbox.
    """
    stamp = folder.stamp()
    box = index.find_mailbox(database, folder.name)
    is_current = box is not None and not force and box.is_current(stamp, time.time_ns())
    if box and is_current and not (move_new and _has_unmoved(database, box)):
        return box
    with Dotlock(folder.uidlist):
        return _Pass(database, folder, host, box, move_new=move_new, force=force).run()


@contextlib.contextmanager
def assigning(database: sqlite3.Connection, folder: Folder, host: str) -> Iterator[Mailbox]:
    """The mailbox's row, while the uidlist is locked and UIDs from ``uidnext`` on are free."""
    for _ in range(ATTEMPTS):
        box = synchronise(database, folder, host, move_new=False)
        with Dotlock(folder.uidlist):
            if folder.stamp().uidlist == box.stamp.uidlist:
                yield box
                return
    raise TryLater(f"{folder.uidlist} changes too fast")


def note_own_change(database: sqlite3.Connection, folder: Folder, box: Mailbox) -> None:
    """Saves the row after we changed files of a mailbox that was up to date a moment ago."""
    stamp = folder.stamp()
    if stamp.new != box.stamp.new:
        box.new_due = box.new_due or stamp.new[0] + SETTLE_NS
    if stamp.cur != box.stamp.cur:
        box.cur_due = box.cur_due or stamp.cur[0] + SETTLE_NS
    box.stamp = stamp
    index.save_mailbox(database, box)


def _has_unmoved(database: sqlite3.Connection, box: Mailbox) -> bool:
    query = "SELECT 1 FROM message INDEXED BY message_unmoved WHERE mailbox = ? AND place = 'new/' LIMIT 1"
    return database.execute(query, (box.id,)).fetchone() is not None


class _Pass:
    """One reading of one mailbox, under all locks."""

    def __init__(
        self,
        database: sqlite3.Connection,
        folder: Folder,
        host: str,
        box: Mailbox | None,
        *,
        move_new: bool,
        force: bool,
    ) -> None:
        self.database = database
        self.folder = folder
        self.host = host
        self.move_new = move_new
        self.stamp = folder.stamp()
        self.started_ns = time.time_ns()
        self.is_unsure = False  # something moved under our hands: look again the next time
        self.adoptable: dict[str, int] = {}  # UIDs of the uidlist that the index doesn't know, by base
        self.uidls: dict[str, str] = {}  # POP3 unique ids that another program gave, by base
        self.is_first = False  # nobody ever gave UIDs here
        self.has_moved = False
        if box is None or box.stamp.uidlist != self.stamp.uidlist:
            self.box = self._agree(box)
        else:
            self.box = box
        self.modseq = self.box.modseq + 1
        self.everything = force or self.box.stamp.cur == _NEVER

    def run(self) -> Mailbox:
        box = self.box
        reads_new = self.everything or box.stamp.new != self.stamp.new or 0 < box.new_due <= self.started_ns
        reads_cur = self.everything or box.stamp.cur != self.stamp.cur or 0 < box.cur_due <= self.started_ns
        before = (self.stamp.new, self.stamp.cur)
        if reads_new or reads_cur:
            self._compare(reads_new=reads_new, reads_cur=reads_cur)
        if self.move_new:
            self._move_new()
        self._compact()
        after = self.folder.stamp()
        box.new_due = self._due(before[0], after.new, box.new_due, was_read=reads_new)
        box.cur_due = self._due(before[1], after.cur, box.cur_due, was_read=reads_cur)
        # Only our own moves are believed to be what changed since the reading began.
        box.stamp = after if self.has_moved else Stamp(self.stamp.new, self.stamp.cur, after.uidlist)
        index.save_mailbox(self.database, box)
        return box

    def _due(self, before: tuple[int, int], after: tuple[int, int], due: int, *, was_read: bool) -> int:
        """When a directory must be read again although its stamp stays the same."""
        if self.is_unsure or (was_read and self.started_ns - before[0] < TICK_NS):
            return self.started_ns
        if self.has_moved and after != before:
            return after[0] + SETTLE_NS
        return 0 if was_read else due

    # UIDVALIDITY and what the uidlist knows

    def _agree(self, box: Mailbox | None) -> Mailbox:
        """The mailbox's row after uidlist and index were compared, and each mended from the other."""
        listed = uidlist.read(self.folder.uidlist)
        if listed is None:
            return self._restore(box)
        if listed.is_old or not uidlist.is_guid(listed.guid):
            entries = [(uid, base, listed.uidls.get(base, "")) for base, uid in listed.uids.items()]
            listed = replace(listed, guid=box.guid if box is not None else uuid.uuid4().hex)
            uidlist.rewrite(self.folder.uidlist, listed.uidvalidity, listed.uidnext, listed.guid, entries)
        else:
            uidlist.cut_torn_line(self.folder.uidlist, listed.torn_octets)
        index.note_uidvalidity(self.database, listed.uidvalidity)
        if box is None or box.uidvalidity != listed.uidvalidity:
            modseq = modseqs.first(self.stamp)
            box = index.add_mailbox(self.database, self.folder.name, listed.uidvalidity, listed.guid, modseq)
            box.first_recent = listed.uidnext
        self.uidls = listed.uidls
        rows = index.entries(self.database, box)
        known = {base: uid for uid, base, _ in rows}
        taken = set(listed.uids.values())
        lost = [row for row in rows if row[1] not in listed.uids and row[0] not in taken]
        wrong = {base for base, uid in known.items() if listed.uids.get(base, uid if uid not in taken else 0) != uid}
        self.adoptable = {base: uid for base, uid in listed.uids.items() if uid >= box.uidnext or base in wrong}
        if wrong:
            box.modseq += 1
            index.remove_messages(self.database, box, [known[base] for base in wrong])
            box.stamp = Stamp(_NEVER, _NEVER, (0, 0, 0))
        if lost:
            uidlist.append(self.folder.uidlist, sorted(lost))
        box.uidnext = max(box.uidnext, listed.uidnext)
        return box

    def _restore(self, box: Mailbox | None) -> Mailbox:
        """There is no readable uidlist: it is written from the index, or begins."""
        if box is None:
            return self._begin()
        rows = index.entries(self.database, box)
        uidlist.rewrite(self.folder.uidlist, box.uidvalidity, box.uidnext, box.guid, rows)
        return box

    def _begin(self) -> Mailbox:
        """Nobody has listed UIDs here, or Courier has."""
        legacy = courier.read(self.folder)
        if legacy.keywords:
            courier.name_keywords(self.folder, legacy.keywords)
        self.uidls = legacy.uidls
        self.is_first = not legacy.uidvalidity
        uidvalidity = legacy.uidvalidity or index.new_uidvalidity(self.database)
        index.note_uidvalidity(self.database, uidvalidity)
        modseq = modseqs.first(self.stamp)
        box = index.add_mailbox(self.database, self.folder.name, uidvalidity, uuid.uuid4().hex, modseq)
        box.uidnext = box.first_recent = legacy.uidnext
        self.adoptable = legacy.uids
        entries = [(uid, base, self.uidls.get(base, "")) for base, uid in legacy.uids.items()]
        uidlist.rewrite(self.folder.uidlist, uidvalidity, box.uidnext, box.guid, entries)
        return box

    def _compact(self) -> None:
        """Rewrites a uidlist that is mostly about messages long gone."""
        octets = os.stat(self.folder.uidlist).st_size
        if octets > COMPACT_OCTETS:
            rows = index.entries(self.database, self.box)
            if octets > COMPACT_OCTETS + 2 * sum(len(base) + len(uidl) + 14 for _, base, uidl in rows):
                box = self.box
                uidlist.rewrite(self.folder.uidlist, box.uidvalidity, box.uidnext, box.guid, rows)

    # Names on disk and names in the index

    def _compare(self, *, reads_new: bool, reads_cur: bool) -> None:
        listed = self._read(reads_new=reads_new, reads_cur=reads_cur)
        known = self._known(reads_new=reads_new, reads_cur=reads_cur)
        vanished = known.keys() - listed
        fresh: dict[str, str] = {}
        self._place_all(listed - known.keys(), known, vanished, fresh)
        if vanished:
            again = self._read(reads_new=True, reads_cur=True)
            vanished -= again
            self._place_all(again - known.keys() - listed, known, vanished, {}, only_known=True)
            self._expunge([known[path] for path in vanished])
        self._add(fresh)

    def _read(self, *, reads_new: bool, reads_cur: bool) -> set[str]:
        names = set(self.folder.names("new")) if reads_new else set[str]()
        if reads_cur:
            names.update(self.folder.names("cur"))
        return names

    def _known(self, *, reads_new: bool, reads_cur: bool) -> dict[str, int]:
        names = "SELECT place || base || info, uid FROM message"
        if not reads_cur:
            names += " INDEXED BY message_unmoved WHERE mailbox = ? AND place = 'new/'"
        else:
            names += " WHERE mailbox = ?" if reads_new else " WHERE mailbox = ? AND place = 'cur/'"
        return dict(self.database.execute(names, (self.box.id,)))

    def _place_all(
        self,
        appeared: set[str],
        known: dict[str, int],
        vanished: set[str],
        fresh: dict[str, str],
        *,
        only_known: bool = False,
    ) -> None:
        """Each new name is a renamed message, taken off ``vanished``, or goes into ``fresh`` by base."""
        may_be_known = bool(known) or not self.everything
        for path in sorted(appeared):  # cur/ before new/: of two names the settled one comes first
            base, info = filename.split(path[4:])
            old = (self._path_of(base) if may_be_known else None) or fresh.get(base)
            if old is None:
                if not only_known:
                    fresh[base] = path
            elif old in vanished or not self._is_there(old):
                vanished.discard(old)
                self._rename(base, path[:4], info, fresh)
            elif self._is_there(path) and not only_known:
                self._separate(old, path, info, fresh)

    def _path_of(self, base: str) -> str | None:
        row = self.database.execute(
            "SELECT place || base || info FROM message WHERE mailbox = ? AND base = ?", (self.box.id, base)
        ).fetchone()
        return row[0] if row else None

    def _is_there(self, path: str) -> bool:
        return os.path.lexists(f"{self.folder.path}/{path}")

    def _rename(self, base: str, place: str, info: str, fresh: dict[str, str]) -> None:
        if base in fresh:
            fresh[base] = place + base + info
            return
        self.box.modseq = self.modseq
        self.database.execute(
            "UPDATE message SET place = ?, info = ?, flags = ?, modseq = ? WHERE mailbox = ? AND base = ?",
            (place, info, filename.mask_of(info), self.modseq, self.box.id, base),
        )

    def _separate(self, old: str, path: str, info: str, fresh: dict[str, str]) -> None:
        """Two files of one base: one file under two names, or two messages."""
        if not self.move_new:
            return
        root = self.folder.path
        try:
            if os.path.samefile(f"{root}/{old}", f"{root}/{path}"):
                os.unlink(f"{root}/{path}")
            else:
                base = filename.unique_base(self.host, time.time_ns())
                os.rename(f"{root}/{path}", f"{root}/{path[:4]}{base}{info}")
                fresh[base] = f"{path[:4]}{base}{info}"
            self.is_unsure = True
        except FileNotFoundError:
            self.is_unsure = True

    def _expunge(self, uids: list[int]) -> None:
        if uids:
            self.box.modseq = self.modseq
            index.remove_messages(self.database, self.box, uids)

    # New messages

    def _add(self, fresh: dict[str, str]) -> None:
        """Gives UIDs in the order of arrival."""
        found = self._regular_files(fresh)
        if not found:
            return
        box = self.box
        box.modseq = self.modseq
        assigned: list[uidlist.Entry] = []
        uidls: dict[int, str] = {}
        rows: list[tuple[object, ...]] = []
        for base, path, state in found:
            uid = self.adoptable.get(base, 0)
            if not uid:
                uid = box.uidnext + len(assigned)
                assigned.append((uid, base, self.uidls.get(base, "")))
            if base in self.uidls:
                uidls[uid] = self.uidls[base]
            rows.append(self._row(uid, base, path, state))
        if self.is_first:  # what another program put into cur/ has been seen
            is_new = (uid for uid, base, _ in assigned if fresh[base].startswith("new/"))
            box.first_recent = next(is_new, box.uidnext + len(assigned))
        if assigned:
            box.uidnext += len(assigned)
            if box.uidnext > uidlist.LARGEST_UID:
                raise TryLater(f"{self.folder.path} has no UIDs left")
            uidlist.append(self.folder.uidlist, assigned)
        index.add_messages(self.database, rows)
        index.add_uidls(self.database, self.box, uidls)

    def _regular_files(self, fresh: dict[str, str]) -> list[tuple[str, str, os.stat_result]]:
        found: list[tuple[str, str, os.stat_result]] = []
        for base, path in fresh.items():
            try:
                state = os.lstat(f"{self.folder.path}/{path}")
            except FileNotFoundError:
                self.is_unsure = True
                continue
            if stat.S_ISREG(state.st_mode):
                found.append((base, path, state))
        found.sort(key=lambda entry: filename.arrival(entry[0]))
        return found

    def _row(self, uid: int, base: str, path: str, state: os.stat_result) -> tuple[object, ...]:
        info = filename.split(path[4:])[1]
        stated = filename.sizes(base)
        size = stated[1] if stated and stated[0] == state.st_size else None
        mask = filename.mask_of(info)
        date = state.st_mtime
        return self.box.id, uid, mask, self.modseq, base, path[:4], info, date, state.st_size, size

    def _move_new(self) -> None:
        root = self.folder.path
        rows = self.database.execute(
            "SELECT uid, base, info FROM message INDEXED BY message_unmoved WHERE mailbox = ? AND place = 'new/'",
            (self.box.id,),
        ).fetchall()
        for uid, base, info in rows:
            settled = info if info.startswith(":2,") else ":2,"
            target = f"{root}/cur/{base}{settled}"
            try:
                if os.path.lexists(target):
                    self.is_unsure = True
                    continue
                os.rename(f"{root}/new/{base}{info}", target)
            except FileNotFoundError:
                self.is_unsure = True
                continue
            self.has_moved = True
            self.database.execute(
                "UPDATE message SET place = 'cur/', info = ? WHERE mailbox = ? AND uid = ?",
                (settled, self.box.id, uid),
            )
