"""The search index of one account: what its messages say, found by trigrams. One SQLite file beside the index.

Every message has two documents, its header section (2n) and its body (2n + 1), as ``searchtext`` makes them. FTS5's
trigram tokenizer names the documents that may hold a text; their words are kept, compressed, to make sure and to
take them out of the index again. docs/adr/0022-search-index.md has the reasons.

Invariants:
  1. It decides nothing: what it finds is what looking at the messages themselves finds, in any state of it.
  2. A message is known by mailbox, UID and file: one that is another by now is not taken for it.
  3. The file may be deleted, damaged or behind at any time; sessions go without it then, and it is made again.
"""

import contextlib
import os
import sqlite3
import sys
import zlib
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import quote

from posthouse.runtime.log import log

T = TypeVar("T")

FILE_NAME = "posthouse.search"
SCHEMA_VERSION = 1
BUSY_SECONDS = 20.0
TRIGRAM = 3
SHORTEST = 2
"""Of the texts that trigrams name messages for."""
MOST_TRIGRAMS = 12
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# A letter that is too large to be indexed has no words.
_SCHEMA: Final = f"""
CREATE TABLE box (
    id INTEGER PRIMARY KEY,
    folder TEXT NOT NULL UNIQUE,
    uidvalidity INTEGER NOT NULL,
    guid TEXT NOT NULL,
    modseq INTEGER NOT NULL
);
CREATE TABLE letter (
    id INTEGER PRIMARY KEY,
    box INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    base TEXT NOT NULL,
    has_words INTEGER NOT NULL,
    UNIQUE (box, uid)
);
CREATE TABLE words (id INTEGER PRIMARY KEY, header BLOB NOT NULL, body BLOB NOT NULL);
CREATE VIRTUAL TABLE document
    USING fts5 (text, content='', detail=none, columnsize=0, tokenize='trigram case_sensitive 1');
PRAGMA user_version = {SCHEMA_VERSION};
"""

_KNOWN: Final = (
    "SELECT letter.uid FROM box JOIN letter ON letter.box = box.id AND letter.has_words"
    " JOIN known.mailbox AS mailbox ON (mailbox.folder, mailbox.uidvalidity) = (box.folder, box.uidvalidity)"
    " JOIN known.message AS message ON message.mailbox = mailbox.id AND message.uid = letter.uid"
    " AND message.base = letter.base WHERE (box.folder, box.uidvalidity) = (?, ?)"
)
_MATCHING: Final = (
    "SELECT letter.uid, document.rowid FROM document JOIN letter ON letter.id = document.rowid >> 1"
    " WHERE document MATCH ? AND letter.box = (SELECT id FROM box WHERE (folder, uidvalidity) = (?, ?))"
)
# Two characters begin a trigram wherever they are: a NUL, if nothing else, is behind them.
_BEGINNING: Final = (
    "SELECT DISTINCT letter.uid, document.doc FROM temp.trigram AS document"
    " JOIN letter ON letter.id = document.doc >> 1 WHERE document.term >= ? AND document.term < ?"
    " AND letter.box = (SELECT id FROM box WHERE (folder, uidvalidity) = (?, ?))"
)
_DOCUMENTS: Final = (
    "SELECT id << 1, (id << 1) + 1 FROM letter"
    " WHERE box = (SELECT id FROM box WHERE (folder, uidvalidity) = (?, ?)) AND uid = ?"
)
_WORDS: Final = ("SELECT header FROM words WHERE id = ?", "SELECT body FROM words WHERE id = ?")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Those of the messages that are indexed which have a text in them for sure, and those which may."""

    sure: AbstractSet[int]
    maybe: AbstractSet[int]


class Texts:
    """What one mailbox's messages say, during one search; ``uids`` are those that it knows. Blocking.

    Trouble with the file makes it know nothing more.
    """

    __slots__ = ("_database", "_documents", "_key", "_path", "uids")

    def __init__(self, path: str, index_path: str, key: tuple[str, int]) -> None:
        """Raises FileNotFoundError where there is none, sqlite3.Error."""
        self._path = path
        self._key = key
        # Those that may have a text, by UID; for a text and whether only bodies were asked about.
        self._documents: dict[tuple[str, bool], dict[int, list[int]]] = {}
        self._database = connect(path, index_path, may_make=False)
        try:
            self._database.execute("CREATE VIRTUAL TABLE temp.trigram USING fts5vocab (main, document, instance)")
            self._database.execute("BEGIN")  # everything that follows is of one moment
            self.uids = frozenset(uid for (uid,) in self._database.execute(_KNOWN, key))
        except BaseException:
            self._database.close()
            raise

    def candidates(self, text: str, *, header: bool = True, body: bool = True) -> Candidates | None:
        """Where this casemapped text may be, in these documents; None: nobody knows."""
        if len(text) < SHORTEST or "\0" in text or (len(text) == SHORTEST and "\n" in text):
            return Candidates(frozenset(), self.uids)
        if len(text) == SHORTEST:
            query, number, values = _BEGINNING, "document.doc", (text, _after(text))
        else:
            query, number, values = _MATCHING, "document.rowid", (_match(text),)
        if not (header and body):
            query += f" AND {number} & 1 = {int(body)}"
        found = self._attempt(lambda: self._database.execute(query, (*values, *self._key)).fetchall())
        if found is None:
            return None
        documents = self._documents[text, not header] = {}
        for uid, document in found:
            documents.setdefault(uid, []).append(document)
        uids = {uid for uid, _ in found} & self.uids
        is_exact = len(text) <= TRIGRAM and "\n" not in text  # documents have that where NULs were
        return Candidates(uids if is_exact else frozenset(), uids)

    def contains(self, uid: int, text: str, *, body_only: bool) -> bool | None:
        """Whether the message has this casemapped text in its body, or its header section too; None: nobody knows."""
        if not text:
            return True
        return self._attempt(lambda: self._look(uid, text, body_only=body_only))

    def _look(self, uid: int, text: str, *, body_only: bool) -> bool | None:
        if uid not in self.uids:
            return None
        candidates = self._documents.get((text, body_only))
        documents = self._row(_DOCUMENTS, *self._key, uid) if candidates is None else candidates.get(uid, ())
        return any(text in self._said(document) for document in documents if document & 1 or not body_only)

    def _said(self, document: int) -> str:
        return unpacked(self._row(_WORDS[document & 1], document >> 1)[0])

    def _row(self, query: str, *values: object) -> Sequence[Any]:
        row = self._database.execute(query, values).fetchone()
        if row is None:
            raise sqlite3.DatabaseError("a row is missing")
        return row

    def close(self) -> None:
        self._database.close()

    def _attempt(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except sqlite3.Error as error:
            discard_if_damaged(self._path, error)
            self.uids = frozenset()
            return None


class Fulltext:
    """Whether an account has a search index, and where. ``by_default``: what counts where it doesn't say itself.

    ``ask`` tells whoever makes indexes that this account's should be brought up to date.
    """

    __slots__ = ("_account", "_ask", "_by_default")

    def __init__(self, account: str, *, by_default: bool, ask: Callable[[], None] = lambda: None) -> None:
        self._account = account
        self._by_default = by_default
        self._ask = ask

    @property
    def path(self) -> str:
        return f"{self._account}/{FILE_NAME}"

    @property
    def choice(self) -> str:
        """``on``, ``off``, or empty where the account goes by the configuration."""
        try:
            with open(self._choice_path, encoding="ascii", errors="replace") as file:
                said = file.read(10).strip()
        except FileNotFoundError:
            return ""
        return said if said in ("on", "off") else ""

    def choose(self, choice: str) -> None:
        """``on``, ``off``, or empty to go by the configuration."""
        if not choice:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._choice_path)
            return
        temporary = f"{self._choice_path}.{os.getpid()}"
        with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(f"{choice}\n")
        os.rename(temporary, self._choice_path)

    @property
    def is_wanted(self) -> bool:
        choice = self.choice if is_possible() else "off"
        return choice == "on" or (not choice and self._by_default)

    def open(self, index_path: str, key: tuple[str, int]) -> Texts | None:
        """What is known of a mailbox, None where nothing is. Who searches shows that an index is of use."""
        if not self.is_wanted:
            return None
        self._ask()
        try:
            return Texts(self.path, index_path, key)
        except FileNotFoundError:
            return None
        except sqlite3.Error as error:
            discard_if_damaged(self.path, error)
            return None

    def keep_up(self) -> None:
        """The mailbox is used: an index that is there already is to be brought up to date."""
        if os.path.exists(self.path) and self.is_wanted:
            self._ask()

    @property
    def _choice_path(self) -> str:
        return f"{self._account}/posthouse-search"


def connect(path: str, index_path: str, *, may_make: bool) -> sqlite3.Connection:
    """The file, with the account's index as ``known`` beside it. Raises FileNotFoundError, sqlite3.Error."""
    for needed in (index_path,) if may_make else (path, index_path):
        if not os.path.exists(needed):
            raise FileNotFoundError(needed)
    if may_make:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    database = sqlite3.connect(
        f"file:{quote(path)}?mode=rw", BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if not version:
            if not may_make:
                raise FileNotFoundError(path)  # it is being made
            _create(database)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("file is not a database of this version")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA cache_size = -2048")
        # Writable, it would be locked with every change of ours.
        database.execute("ATTACH ? AS known", (f"file:{quote(index_path)}?mode=ro",))
    except BaseException:
        database.close()
        raise
    return database


def _create(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    if database.execute("PRAGMA user_version").fetchone()[0] == 0:  # nobody was faster
        for statement in filter(str.strip, _SCHEMA.split(";")):
            database.execute(statement)
    database.execute("COMMIT")


@cache
def is_possible() -> bool:
    """Whether this Python's SQLite has the trigram tokenizer (3.34 and FTS5)."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute("CREATE VIRTUAL TABLE document USING fts5 (text, tokenize='trigram case_sensitive 1')")
        except sqlite3.OperationalError:
            return False
    return True


def discard_if_damaged(path: str, error: Exception) -> bool:
    """Whether the file was what failed; it is gone then. Of another version counts as damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    is_trouble = isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error)
    if is_trouble and code not in _DAMAGED:  # busy, no room, no rights
        return False
    log.warning("search-index-rebuilt", path=path, reason=str(error))
    discard(path)
    return True


def discard(path: str) -> None:
    """Removes the file; its log first, which is not to be taken for that of the next."""
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)


def packed(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8", "replace"), 1)


def unpacked(data: bytes) -> str:
    """Raises sqlite3.DatabaseError where the row is nonsense."""
    try:
        return zlib.decompress(data).decode("utf-8")
    except (zlib.error, ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"words can't be read: {error}") from error


def as_document(text: str) -> str:
    """The tokenizer stops at a NUL."""
    return text.replace("\0", "\n")


def _after(text: str) -> str:
    """What is greater than every trigram that begins with this text, as UTF-8."""
    rest = text.rstrip(chr(sys.maxunicode))
    if not rest:
        return chr(sys.maxunicode) * (TRIGRAM + 1)
    last = ord(rest[-1]) + 1
    return rest[:-1] + chr(0xE000 if last == 0xD800 else last)  # there are no surrogates in UTF-8


def _match(text: str) -> str:
    """Documents that have some of the text's trigrams, which lie side by side or, if there are many, apart."""
    places = list(range(0, len(text) - TRIGRAM, TRIGRAM))
    if len(places) >= MOST_TRIGRAMS:
        places = places[:: len(places) // (MOST_TRIGRAMS - 1) + 1]
    trigrams = {text[at : at + TRIGRAM] for at in (*places, len(text) - TRIGRAM)}
    return " ".join('"{}"'.format(trigram.replace('"', '""')) for trigram in sorted(trigrams))
