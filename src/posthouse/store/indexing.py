"""Brings the search index of an account up to date, a batch at a time, newest messages first.

Invariants:
  1. What is held at once is bounded: the words of one batch, and the numbers of what is to be done.
  2. Several may do it at the same time: each batch is one transaction that does what is still to be done.
  3. Nobody waits for it: no lock of the index or of a mailbox is held while messages are read.
"""

import contextlib
import json
import os
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from posthouse.runtime.log import log
from posthouse.store import filename, folders, fulltext, sync
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.fetch import Message, Request, Source, Vanished
from posthouse.store.fulltext import Fulltext, as_document, connect, packed, unpacked
from posthouse.store.index import Mailbox
from posthouse.store.layout import INBOX, Folder
from posthouse.store.model import Want
from posthouse.store.searchtext import whole

LARGEST_TEXT = 4_000_000
"""Characters of a message beyond which it is not indexed, but looked at when somebody searches."""
BATCH = 50


@dataclass(frozen=True, slots=True)
class State:
    """What is in a search index, or isn't yet."""

    messages: int
    missing: int
    too_large: int
    size_bytes: int


def bring_up_to_date(files: AccountFiles, text_index: Fulltext) -> Iterator[int]:
    """Adds and removes what there is to, with one number for each batch: how many messages it dealt with.

    May be left at any time. Raises OSError, sqlite3.Error; a damaged file is gone then.
    """
    boxes = _synchronised(files)
    try:
        with contextlib.closing(connect(text_index.path, files.index.path, may_make=True)) as database:
            yield from _forget_mailboxes(database)
            for folder, box in boxes:
                yield from _Pass(database, files, folder, box).run()
    except sqlite3.Error as error:
        fulltext.discard_if_damaged(text_index.path, error)
        raise


def state(files: AccountFiles, text_index: Fulltext) -> State:
    """Raises OSError, sqlite3.Error."""
    total = sum(_count(files, box) for _, box in _synchronised(files))
    try:
        with contextlib.closing(connect(text_index.path, files.index.path, may_make=False)) as database:
            query = "SELECT count(*), coalesce(sum(NOT has_words), 0) FROM letter"
            known, too_large = database.execute(query).fetchone()
            (current,) = database.execute(
                "SELECT count(*) FROM box JOIN letter ON letter.box = box.id"
                " JOIN known.mailbox AS mailbox ON (mailbox.folder, mailbox.uidvalidity)"
                " = (box.folder, box.uidvalidity) JOIN known.message AS message ON message.mailbox = mailbox.id"
                " AND message.uid = letter.uid AND message.base = letter.base"
            ).fetchone()
    except FileNotFoundError:
        return State(0, total, 0, 0)
    size_bytes = sum(_size(text_index.path + suffix) for suffix in ("", "-wal"))
    return State(known - too_large, max(0, total - current), too_large, size_bytes)


def _synchronised(files: AccountFiles) -> list[tuple[Folder, Mailbox]]:
    """All mailboxes as the index has them, brought up to date."""
    found: list[tuple[Folder, Mailbox]] = []
    for name in (INBOX, *folders.existing_names(files)):
        folder = files.folder(name)
        with contextlib.suppress(FileNotFoundError), files.index.changing() as database:
            found.append((folder, sync.synchronise(database, folder, files.host, move_new=False)))
    return found


def _count(files: AccountFiles, box: Mailbox) -> int:
    with files.index.reading() as database:
        return database.execute("SELECT count(*) FROM message WHERE mailbox = ?", (box.id,)).fetchone()[0]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _changing(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _forget_mailboxes(database: sqlite3.Connection) -> Iterator[int]:
    """Mailboxes that are renamed keep what is known of them, those that are gone go."""
    gone = (
        "FROM box WHERE NOT EXISTS (SELECT 1 FROM known.mailbox AS mailbox"
        " WHERE (mailbox.folder, mailbox.uidvalidity) = (box.folder, box.uidvalidity))"
    )
    with _changing(database):
        for number, guid, uidvalidity in database.execute(f"SELECT id, guid, uidvalidity {gone}").fetchall():
            database.execute(
                "UPDATE OR IGNORE box SET folder = mailbox.folder FROM known.mailbox AS mailbox"
                " WHERE box.id = ? AND mailbox.guid = ? AND mailbox.uidvalidity = ?",
                (number, guid, uidvalidity),
            )
    for (number,) in database.execute(f"SELECT id {gone}").fetchall():
        query = "SELECT id FROM letter WHERE box = ?"
        yield from _forget(database, array("q", [row[0] for row in database.execute(query, (number,))]))
        database.execute(
            "DELETE FROM box WHERE id = ? AND NOT EXISTS (SELECT 1 FROM letter WHERE letter.box = box.id)", (number,)
        )


def _forget(database: sqlite3.Connection, letters: Sequence[int]) -> Iterator[int]:
    """Takes messages out of the index."""
    for at in range(0, len(letters), BATCH):
        batch = letters[at : at + BATCH]
        with _changing(database):
            for number in batch:
                _forget_one(database, number)
        yield len(batch)


def _forget_one(database: sqlite3.Connection, number: int) -> None:
    words = database.execute("SELECT header, body FROM words WHERE id = ?", (number,)).fetchone()
    if words is not None:
        database.executemany(
            "INSERT INTO document (document, rowid, text) VALUES ('delete', ?, ?)",
            [(2 * number + part, as_document(unpacked(data))) for part, data in enumerate(words)],
        )
        database.execute("DELETE FROM words WHERE id = ?", (number,))
    database.execute("DELETE FROM letter WHERE id = ?", (number,))


class _Pass:
    """One mailbox."""

    def __init__(self, database: sqlite3.Connection, files: AccountFiles, folder: Folder, box: Mailbox) -> None:
        self.database = database
        self.box = box
        self.folder = folder
        self.source = Source(files, folder, box.uidvalidity, read_only=True, keeps=False)

    def run(self) -> Iterator[int]:
        number, modseq = self._number()
        if modseq == self.box.modseq:
            return
        values = (number, self.box.id)
        gone = self.database.execute(
            "SELECT id FROM letter WHERE box = ? AND NOT EXISTS (SELECT 1 FROM known.message AS message"
            " WHERE message.mailbox = ? AND message.uid = letter.uid AND message.base = letter.base)",
            values,
        )
        yield from _forget(self.database, array("q", [row[0] for row in gone]))
        missing = self.database.execute(
            "SELECT uid FROM known.message AS message WHERE NOT EXISTS"
            " (SELECT 1 FROM letter WHERE box = ? AND letter.uid = message.uid) AND message.mailbox = ?"
            " ORDER BY uid DESC",
            values,
        )
        uids = array("I", [row[0] for row in missing])
        for at in range(0, len(uids), BATCH):
            yield self._add(number, uids[at : at + BATCH])
        self.database.execute("UPDATE box SET modseq = ? WHERE id = ?", (self.box.modseq, number))
        self.source.close()

    def _number(self) -> tuple[int, int]:
        box = self.box
        with _changing(self.database):
            query = "SELECT id, modseq FROM box WHERE (folder, uidvalidity) = (?, ?)"
            row = self.database.execute(query, (box.folder, box.uidvalidity)).fetchone()
            if row is not None:
                return row
            return self.database.execute(
                "INSERT INTO box (folder, uidvalidity, guid, modseq) VALUES (?, ?, ?, -1) RETURNING id, modseq",
                (box.folder, box.uidvalidity, box.guid),
            ).fetchone()

    def _add(self, number: int, uids: Sequence[int]) -> int:
        with _changing(self.database):
            query = "SELECT uid FROM letter WHERE box = ? AND uid IN (SELECT value FROM json_each(?))"
            there = {uid for (uid,) in self.database.execute(query, (number, json.dumps(list(uids))))}
            pending = [uid for uid in uids if uid not in there]
            while pending:
                request = Request(Want.STRUCTURE | Want.HEADER | Want.BODY, self._words)
                flags = [frozenset[str]()] * len(pending)
                made, done = self.source.batch(pending, flags, request)
                for uid, base, words in made:
                    self._write(number, uid, base, words)
                pending = pending[done:]
        return len(uids)

    def _words(self, message: Message) -> tuple[int, str, tuple[str, str] | None]:
        try:
            words = whole(message, LARGEST_TEXT)
        except OSError as error:  # whoever searches hears of it; the others are indexed
            log.warning("message-not-indexed", path=f"{self.folder.path}/{message.entry.path}", reason=str(error))
            raise Vanished(message.uid) from error
        return message.uid, filename.split(message.entry.path[4:])[0], words

    def _write(self, box: int, uid: int, base: str, words: tuple[str, str] | None) -> None:
        query = "INSERT INTO letter (box, uid, base, has_words) VALUES (?, ?, ?, ?) RETURNING id"
        (number,) = self.database.execute(query, (box, uid, base, words is not None)).fetchone()
        if words is None:
            return
        self.database.execute("INSERT INTO words VALUES (?, ?, ?)", (number, *map(packed, words)))
        self.database.executemany(
            "INSERT INTO document (rowid, text) VALUES (?, ?)",
            [(2 * number + part, as_document(text)) for part, text in enumerate(words)],
        )
