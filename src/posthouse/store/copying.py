"""COPY and MOVE between mailboxes of one account (RFC 3501 §6.4.7, RFC 6851): hard links, all or nothing.

Invariants:
  1. Copies, with their content, and their UIDs are durable before a source is removed, and before anybody is told.
  2. If a link fails, those before it are taken back.
  3. A copy keeps the internal date, because that is the file's mtime, which links share.
"""

import contextlib
import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence

from posthouse.base.errors import TryLater
from posthouse.journal.checkpoint import sync_file_systems
from posthouse.store import filename, index, quota, sync, uidlist
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.changes import Row, remove, require_room, rows
from posthouse.store.index import Mailbox
from posthouse.store.layout import Folder, sync_directory
from posthouse.store.model import Copied
from posthouse.store.quota import Limit

SYNCED_SINGLY = 20  # more messages than these are cheaper by one syncfs
_NO_LINKS = frozenset({errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP})


def copy(
    files: AccountFiles, source: Folder, target: Folder, uids: Sequence[int], limit: Limit | None, *, move: bool
) -> Copied:
    """What is gone from the source is left out."""
    done: Copied | None = None
    for attempt in range(sync.ATTEMPTS):
        try:
            with files.index.changing() as database:
                sync.synchronise(database, source, files.host, move_new=True, force=attempt > 0)
                with sync.assigning(database, target, files.host) as box:
                    done = _copy(files, database, source, target, box, uids, None if move else limit, move)
                if move:
                    _remove_sources(files, database, source, done)
        except FileNotFoundError:
            pass  # a source was renamed under our hands
        except sqlite3.Error:
            if done is None:
                raise
        if done is not None:
            return done
    raise TryLater(f"{source.path}: messages are renamed faster than they can be copied")


def _copy(
    files: AccountFiles,
    database: sqlite3.Connection,
    source: Folder,
    target: Folder,
    box: Mailbox,
    uids: Sequence[int],
    limit: Limit | None,
    move: bool,
) -> Copied:
    origin = index.find_mailbox(database, source.name)
    assert origin is not None  # it was synchronised
    messages = rows(database, origin, uids)
    total = sum(message.stored for message in messages)
    require_room(files, limit, total)
    letters = _Letters(files, source, target)
    made: list[Row] = []
    with _taken_back_unless_done(target, made):
        for uid, message in enumerate(messages, box.uidnext):
            mask = letters.translate(message.flags)
            copied = message._replace(uid=uid, flags=mask, place="cur/", info=filename.info_with("", mask))
            keeps_name = move and source != target and not _has_base(database, box, message.base)
            copied = copied if keeps_name else copied._replace(base=_new_base(files.host, message))
            _link(f"{source.path}/{message.path}", f"{target.path}/{copied.path}")
            made.append(copied)
        if made:
            _sync_contents([f"{target.path}/{copied.path}" for copied in made])
            sync_directory(f"{target.path}/cur")
            uidlist.append(target.uidlist, [(copied.uid, copied.base, "") for copied in made])
    _record(database, origin, target, box, messages, made)
    quota.add(files.path, total, len(made))
    return Copied(box.uidvalidity, tuple(row.uid for row in messages), tuple(row.uid for row in made))


@contextlib.contextmanager
def _taken_back_unless_done(target: Folder, made: list[Row]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for copied in made:
            with contextlib.suppress(OSError):
                os.unlink(f"{target.path}/{copied.path}")
        raise


def _sync_contents(paths: list[str]) -> None:
    """A message that came in seconds ago is durable in the journal only, which doesn't know of its copies."""
    if len(paths) > SYNCED_SINGLY:
        sync_file_systems([os.path.dirname(paths[0])])
        return
    for path in paths:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)


def _record(
    database: sqlite3.Connection,
    origin: Mailbox,
    target: Folder,
    box: Mailbox,
    messages: list[Row],
    made: list[Row],
) -> None:
    """The copies' rows, with what is known of the originals."""
    if not made:
        return
    box.modseq += 1
    box.uidnext += len(made)
    index.add_messages(
        database,
        [
            (box.id, row.uid, row.flags, box.modseq, row.base, row.place, row.info, row.date, row.stored, row.size)
            for row in made
        ],
    )
    database.executemany(
        "INSERT OR REPLACE INTO cache SELECT ?, ?, envelope, structure, parts, header, email_id, preview FROM cache"
        " WHERE mailbox = ? AND uid = ?",
        [(box.id, new.uid, origin.id, old.uid) for old, new in zip(messages, made, strict=True)],
    )
    # What keeps its name doesn't say by it when it came here (RFC 8514 §4.2).
    moved = [
        (box.id, new.uid, int(time.time())) for old, new in zip(messages, made, strict=True) if old.base == new.base
    ]
    database.executemany("INSERT OR REPLACE INTO saved VALUES (?, ?, ?)", moved)
    sync.note_own_change(database, target, box)


def _remove_sources(files: AccountFiles, database: sqlite3.Connection, source: Folder, done: Copied) -> None:
    """Unlinks what was moved; a source that was renamed meanwhile is looked for."""
    for attempt in range(sync.ATTEMPTS):
        box = sync.synchronise(database, source, files.host, move_new=True, force=attempt > 0)
        left = rows(database, box, done.source_uids)
        if remove(files, database, source, box, left):
            return


class _Letters:
    """Flags of one mailbox in the letters of another."""

    def __init__(self, files: AccountFiles, source: Folder, target: Folder) -> None:
        self._from = files.keywords(source)
        self._to = files.keywords(target)
        self._masks: dict[int, int] = {}

    def translate(self, mask: int) -> int:
        if mask < 1 << filename.KEYWORD_SHIFT or self._from is self._to:
            return mask
        if mask not in self._masks:
            self._masks[mask] = self._to.mask(self._from.flags(mask))
        return self._masks[mask]


def _has_base(database: sqlite3.Connection, box: Mailbox, base: str) -> bool:
    query = "SELECT 1 FROM message WHERE mailbox = ? AND base = ?"
    return database.execute(query, (box.id, base)).fetchone() is not None


def _new_base(host: str, message: Row) -> str:
    base = f"{filename.unique_base(host, time.time_ns())},S={message.stored}"
    return base if message.size is None else f"{base},W={message.size}"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(source, target, follow_symlinks=False)
        os.chmod(target, 0o600)
