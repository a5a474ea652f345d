"""The index of one account: one SQLite file that mirrors its Maildir for speed.

Whoever changes something that the index knows, on disk or in it, does so within ``changing()``: it is the lock
among all our processes.

Invariants:
  1. A row's UID is on disk in the uidlist before the row is committed; the index may be behind, never ahead.
  2. The file may be deleted or damaged at any time: it is made again, with the same UIDs.
  3. One connection an account and process, used under ``lock``.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.journal.segment import current_boot_id
from posthouse.runtime.log import log
from posthouse.store import modseqs
from posthouse.store.digests import SCHEMA as DIGEST_SCHEMA
from posthouse.store.layout import Stamp

FILE_NAME = "posthouse.index"
SCHEMA_VERSION = 6
BUSY_SECONDS = 20.0
UNKNOWN = Stamp((0, 0), (0, 0), (0, 0, 0))  # of no directory: all is read again
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_THE_FILE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT}
)  # fmt: skip

_SCHEMA = """
CREATE TABLE account (uidvalidity INTEGER NOT NULL, boot TEXT NOT NULL);
CREATE TABLE mailbox (
    id INTEGER PRIMARY KEY,
    folder TEXT NOT NULL UNIQUE,
    uidvalidity INTEGER NOT NULL,
    guid TEXT NOT NULL,
    uidnext INTEGER NOT NULL,
    first_recent INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    expunged INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    stamp TEXT NOT NULL,
    new_due INTEGER NOT NULL,
    cur_due INTEGER NOT NULL
);
CREATE TABLE message (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    base TEXT NOT NULL,
    place TEXT NOT NULL,
    info TEXT NOT NULL,
    date REAL NOT NULL,
    stored INTEGER NOT NULL,
    size INTEGER,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE UNIQUE INDEX message_base ON message (mailbox, base);
CREATE INDEX message_modseq ON message (mailbox, modseq);
CREATE INDEX message_unmoved ON message (mailbox) WHERE place = 'new/';
CREATE TABLE cache (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    envelope BLOB,
    structure BLOB,
    parts BLOB,
    header BLOB,
    email_id TEXT,
    preview TEXT,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE TABLE saved (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE TABLE uidl (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    uidl TEXT NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE TABLE field_set (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE fields (
    mailbox INTEGER NOT NULL,
    field_set INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (mailbox, field_set, uid)
) WITHOUT ROWID;
CREATE TABLE expunged (
    mailbox INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    PRIMARY KEY (mailbox, modseq, low)
) WITHOUT ROWID;
CREATE TABLE gap (mailbox INTEGER NOT NULL, after INTEGER NOT NULL, before INTEGER NOT NULL);
CREATE INDEX gap_mailbox ON gap (mailbox);
CREATE TRIGGER message_gone AFTER DELETE ON message BEGIN
    DELETE FROM cache WHERE mailbox = old.mailbox AND uid = old.uid;
    DELETE FROM uidl WHERE mailbox = old.mailbox AND uid = old.uid;
    DELETE FROM saved WHERE mailbox = old.mailbox AND uid = old.uid;
    DELETE FROM fields
        WHERE mailbox = old.mailbox AND uid = old.uid AND field_set IN (SELECT id FROM field_set);
END;
CREATE TRIGGER mailbox_gone AFTER DELETE ON mailbox BEGIN
    DELETE FROM message WHERE mailbox = old.id;
    DELETE FROM expunged WHERE mailbox = old.id;
    DELETE FROM gap WHERE mailbox = old.id;
END;
INSERT INTO account VALUES (0, '');
"""


@dataclass(slots=True)
class Mailbox:
    """A row of ``mailbox``.

    ``first_recent``: messages from this UID on were seen by no read-write session. ``expunged``: the
    modification sequence of the last expunge (``forgotten``, which only modseqs.py reads: of the last one that is
    no longer listed). ``new_due``, ``cur_due``: when, in ns since the epoch, the
    directory must be read again although its stamp is the same; 0 is never.
    """

    id: int
    folder: str
    uidvalidity: int
    guid: str
    uidnext: int
    first_recent: int
    modseq: int
    expunged: int
    stamp: Stamp
    new_due: int = 0
    cur_due: int = 0

    def is_current(self, stamp: Stamp, now_ns: int) -> bool:
        return self.stamp == stamp and not _is_due(self.new_due, now_ns) and not _is_due(self.cur_due, now_ns)


def _is_due(due: int, now_ns: int) -> bool:
    return 0 < due <= now_ns


class Index:
    """The connection to one account's index, opened when it is needed."""

    __slots__ = ("_database", "_identity", "_is_doubted", "lock", "path")

    def __init__(self, account_path: str) -> None:
        self.path = f"{account_path}/{FILE_NAME}"
        self.lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._is_doubted = False

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that excludes every other one, in all processes."""
        with self.lock:
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For one statement, or several that need not agree."""
        with self.lock:
            yield self._open()

    def close(self) -> None:
        with self.lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def discard_if_damaged(self, error: Exception) -> bool:
        """Whether the file was what failed; it is gone then, and the work can be done again.

        An error that may as well be a bug of ours is believed to be nonsense in a row, once.
        """
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # A file cut to nothing under an open connection is an empty database, not a corrupt one.
        is_damaged = code in _DAMAGED or "no such table" in str(error)
        if not is_damaged and code not in _NOT_THE_FILE:
            is_damaged, self._is_doubted = not self._is_doubted, True
        if not is_damaged:
            return False
        log.warning("index-rebuilt", path=self.path, reason=str(error))
        self.discard()
        return True

    def discard(self) -> None:
        """Removes the file: it is made anew from Maildir and uidlist."""
        with self.lock:
            self._discard()

    def _discard(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + suffix)

    def _open(self) -> sqlite3.Connection:
        if self._database is not None and _identity(self.path) == self._identity:
            return self._database
        self.close()
        database = self._connect()
        if database.execute("PRAGMA user_version").fetchone()[0] not in (0, SCHEMA_VERSION):
            database.close()
            self._discard()
            database = self._connect()
        _note_boot(database)
        self._identity = _identity(self.path)
        self._database = database
        return database

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA recursive_triggers = ON")
            database.execute("PRAGMA cache_size = -512")
            if database.execute("PRAGMA user_version").fetchone()[0] == 0:
                _create(database)
        except BaseException:
            database.close()
            raise
        return database


def _create(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    if database.execute("PRAGMA user_version").fetchone()[0] == 0:  # nobody was faster
        for statement in _statements(_SCHEMA + DIGEST_SCHEMA):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("COMMIT")


def _note_boot(database: sqlite3.Connection) -> None:
    boot = current_boot_id()
    if database.execute("SELECT boot FROM account").fetchone() != (boot,):
        database.execute("BEGIN IMMEDIATE")
        modseqs.note_boot(database, boot)
        database.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """The script one statement at a time: ``executescript`` would commit in between."""
    pending = ""
    for part in script.split(";"):
        pending += part + ";"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _identity(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)
        return state.st_dev, state.st_ino
    except FileNotFoundError:
        return (0, 0)


def find_mailbox(database: sqlite3.Connection, folder: str) -> Mailbox | None:
    row = database.execute(
        "SELECT id, folder, uidvalidity, guid, uidnext, first_recent, modseq, expunged, stamp, new_due, cur_due"
        " FROM mailbox WHERE folder = ?",
        (folder,),
    ).fetchone()
    if row is None:
        return None
    *fields, stamp, new_due, cur_due = row
    return Mailbox(*fields, stamp=_stamp_from(stamp), new_due=new_due, cur_due=cur_due)


def add_mailbox(database: sqlite3.Connection, folder: str, uidvalidity: int, guid: str, modseq: int) -> Mailbox:
    """A row for a mailbox whose messages are not known yet."""
    database.execute("DELETE FROM mailbox WHERE folder = ?", (folder,))
    box = Mailbox(0, folder, uidvalidity, guid, 1, 1, modseq, modseq, UNKNOWN)
    box.id = database.execute(
        "INSERT INTO mailbox (folder, uidvalidity, guid, uidnext, first_recent, modseq, expunged, forgotten,"
        " stamp, new_due, cur_due) VALUES (?, ?, ?, 1, 1, ?, ?, ?, '', 0, 0) RETURNING id",
        (folder, uidvalidity, guid, modseq, modseq, modseq),
    ).fetchone()[0]
    return box


def save_mailbox(database: sqlite3.Connection, box: Mailbox) -> None:
    database.execute(
        "UPDATE mailbox SET uidvalidity = ?, guid = ?, uidnext = ?, first_recent = ?, modseq = ?, expunged = ?,"
        " stamp = ?, new_due = ?, cur_due = ? WHERE id = ?",
        (
            box.uidvalidity,
            box.guid,
            box.uidnext,
            box.first_recent,
            box.modseq,
            box.expunged,
            _stamp_to(box.stamp),
            box.new_due,
            box.cur_due,
            box.id,
        ),
    )


def new_uidvalidity(database: sqlite3.Connection) -> int:
    """From the clock, and never one that this account had before."""
    (highest,) = database.execute("SELECT uidvalidity FROM account").fetchone()
    value = max(int(time.time()), highest + 1)
    note_uidvalidity(database, value)
    return value


def note_uidvalidity(database: sqlite3.Connection, value: int) -> None:
    database.execute("UPDATE account SET uidvalidity = max(uidvalidity, ?)", (value,))


def add_messages(database: sqlite3.Connection, rows: list[tuple[object, ...]]) -> None:
    """Rows of mailbox id, uid, flags, modseq, base, place, info, date, stored, size."""
    database.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def add_uidls(database: sqlite3.Connection, box: Mailbox, uidls: dict[int, str]) -> None:
    """POP3 unique ids that are not made of UIDVALIDITY and UID, by UID."""
    database.executemany(
        "INSERT OR REPLACE INTO uidl VALUES (?, ?, ?)", [(box.id, uid, uidl) for uid, uidl in uidls.items()]
    )


def entries(database: sqlite3.Connection, box: Mailbox) -> list[tuple[int, str, str]]:
    """What the uidlist says of the messages that are there."""
    return database.execute(
        "SELECT uid, base, coalesce(uidl, '') FROM message LEFT JOIN uidl USING (mailbox, uid) WHERE mailbox = ?",
        (box.id,),
    ).fetchall()


def remove_messages(database: sqlite3.Connection, box: Mailbox, uids: list[int]) -> None:
    """What is gone; sessions find out by ``expunged``."""
    box.expunged = box.modseq
    modseqs.note_expunged(database, box.id, box.modseq, uids)
    database.executemany("DELETE FROM message WHERE mailbox = ? AND uid = ?", [(box.id, uid) for uid in uids])


def _stamp_to(stamp: Stamp) -> str:
    return " ".join(map(str, (*stamp.new, *stamp.cur, *stamp.uidlist)))


def _stamp_from(text: str) -> Stamp:
    n = [int(digits) for digits in text.split()] or [0] * 7
    return Stamp((n[0], n[1]), (n[2], n[3]), (n[4], n[5], n[6]))
