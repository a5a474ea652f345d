"""The queue's index, ``queue/index.db``: what waits in messages/ and when it is due, so that memory need not know.

Derived and never the authority: messages/ and state/ are. A file that is lost, torn or may be behind (the machine
went down without our closing it) is begun anew; the runner fills it again while mail flows. Where no file can be
written it is kept in memory instead.

A row is what is due together: one message's recipients with one destination. Rows of messages that the runner has in
memory are ``taken``. ``lanes`` has, for each destination and owner, the time before which nothing is due.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

from posthouse.runtime.log import log

VERSION = 1
FILE = "index.db"
NEVER = 9e15
"""When something on hold is due."""
AT_ONCE = 250
"""Most rows taken of one owner's on one destination at a time."""

_SCHEMA = """
CREATE TABLE jobs (
    message TEXT, destination TEXT, owner TEXT, due REAL, taken INTEGER, PRIMARY KEY (message, destination)
) WITHOUT ROWID;
CREATE INDEX by_due ON jobs (destination, owner, due) WHERE taken = 0;
CREATE INDEX by_taken ON jobs (taken) WHERE taken = 1;
CREATE TABLE lanes (destination TEXT, owner TEXT, due REAL, PRIMARY KEY (destination, owner)) WITHOUT ROWID;
CREATE INDEX lanes_by_due ON lanes (due);
CREATE TABLE opened (boot TEXT, is_clean INTEGER);
INSERT INTO opened VALUES ('', 1);
"""
_PUT = "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, 0)"
_LANE = """
INSERT INTO lanes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET due = excluded.due WHERE excluded.due < due
"""
_GIVE_BACK = """
INSERT INTO lanes SELECT destination, owner, min(due) FROM jobs WHERE taken = 1 GROUP BY destination, owner
ON CONFLICT DO UPDATE SET due = excluded.due WHERE excluded.due < due
"""
_OTHERS = """
FROM lanes WHERE destination NOT IN (SELECT value FROM json_each(?1))
AND json_array(destination, owner) NOT IN (SELECT value FROM json_each(?2))
"""
_DUE = """
SELECT message FROM jobs WHERE destination = ? AND owner = ? AND taken = 0 AND due <= ? ORDER BY due LIMIT ?
"""
_CENSUS = """
SELECT CASE WHEN due >= ?1 THEN 'hold' WHEN due > ?2 THEN 'deferred' ELSE 'active' END AS state,
count(DISTINCT message), min(message) FROM jobs WHERE taken = 0 GROUP BY state
"""
_DUE_AGAIN = "SELECT min(due) FROM jobs WHERE message = ? AND taken = 0"
_FIRST = "SELECT min(due) FROM jobs WHERE destination = ? AND owner = ? AND taken = 0"


@dataclass(frozen=True, slots=True)
class Row:
    """What waits for one destination; ``due`` in seconds since the epoch."""

    message: str
    destination: str
    owner: str
    due: float


class Index:
    """One connection; no two threads call it at a time. Every method may raise ``sqlite3.Error``."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open it, or begin anew."""
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot = file.read().strip()
        except OSError:
            boot = ""
        try:
            if os.path.exists(self._path) and self._is_sound(boot):
                return
        except (sqlite3.Error, OSError) as failure:
            log.warning("queue-index-unusable", file=self._path, error=str(failure))
        self.replace()
        self._db.execute("UPDATE opened SET boot = ?, is_clean = 0", (boot,))

    def replace(self) -> None:
        """Begin anew, with nothing in it."""
        try:
            self._make()
        except (sqlite3.Error, OSError) as failure:
            log.error("queue-index-unusable", file=self._path, error=str(failure), consequence="kept in memory")
            self._connect(":memory:").executescript(f"{_SCHEMA}PRAGMA user_version = {VERSION};")

    def _make(self) -> None:
        self._disconnect()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path + suffix)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._connect(self._path).executescript(f"{_SCHEMA}PRAGMA user_version = {VERSION};")

    def close(self) -> None:
        """All of it is on disk then."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("UPDATE opened SET is_clean = 1")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._disconnect()

    def write(self, changes: Mapping[str, Sequence[Row]]) -> None:
        """All that waits of these messages, by their names; nothing: they are done with, or only in memory."""
        rows = [row for rows in changes.values() for row in rows]
        lanes: dict[tuple[str, str], float] = {}
        for row in rows:
            key = (row.destination, row.owner)
            lanes[key] = min(row.due, lanes.get(key, row.due))
        with self._transaction():
            self._db.executemany("DELETE FROM jobs WHERE message = ?", [(name,) for name in changes])
            self._db.executemany(_PUT, [astuple(row) for row in rows])
            self._db.executemany(_LANE, [(*key, due) for key, due in lanes.items()])

    def take(
        self, now: float, full: Iterable[str], full_owners: Iterable[tuple[str, str]], limit: int
    ) -> tuple[list[str], float]:
        """Messages that are due, but for these destinations and owners, and when there may be more.

        Of every owner on a destination the longest due; what is taken stays so until it is written again.
        """
        others = (
            json.dumps(list(full), ensure_ascii=False),
            json.dumps([json.dumps(pair, ensure_ascii=False, separators=(",", ":")) for pair in full_owners]),
        )
        names: dict[str, None] = {}
        with self._transaction():
            lanes = self._db.execute(
                f"SELECT destination, owner {_OTHERS} AND due <= ?3 ORDER BY due LIMIT ?4", (*others, now, limit)
            ).fetchall()
            for lane in lanes:
                if len(names) >= limit:
                    break
                most = min(AT_ONCE, limit - len(names))
                found = self._db.execute(_DUE, (*lane, now, most)).fetchall()
                self._db.executemany("UPDATE jobs SET taken = 1 WHERE message = ?", found)
                names.update(dict.fromkeys(name for (name,) in found))
                self._tidy(lane)
            following = self._db.execute(f"SELECT min(due) {_OTHERS}", others).fetchone()[0]
        return list(names), NEVER if following is None else following

    def shift(self, seconds: float) -> None:
        """The clock was set by so much."""
        with self._transaction():
            for table in ("jobs", "lanes"):
                self._db.execute(f"UPDATE {table} SET due = due + ? WHERE due < ?", (seconds, NEVER))  # noqa: S608 - ours

    def bring_forward(self, latest: float, now: float) -> None:
        """What is due later than ``latest`` was planned by another clock, and is due ``now``."""
        with self._transaction():
            for table in ("jobs", "lanes"):
                where = "WHERE due > ? AND due < ?"
                self._db.execute(f"UPDATE {table} SET due = ? {where}", (now, latest, NEVER))  # noqa: S608 - ours

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of the messages that are not in it."""
        rows = self._db.execute(
            "SELECT message FROM jobs WHERE message IN (SELECT value FROM json_each(?))", (json.dumps(names),)
        )
        known = {name for (name,) in rows.fetchall()}
        return [name for name in names if name not in known]

    def _tidy(self, lane: tuple[str, str]) -> None:
        """When the lane has more; one that has nothing is forgotten."""
        first = self._db.execute(_FIRST, lane).fetchone()[0]
        if first is None:
            self._db.execute("DELETE FROM lanes WHERE destination = ? AND owner = ?", lane)
        else:
            self._db.execute("UPDATE lanes SET due = ? WHERE destination = ? AND owner = ?", (first, *lane))

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "it is open"
        return self._connection

    def _connect(self, path: str) -> sqlite3.Connection:
        self._disconnect()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
        self._connection.execute("PRAGMA cache_size = -16000")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _is_sound(self, boot: str) -> bool:
        """Whether the file can be used; then it is open, and nothing in it is taken."""
        try:
            connection = self._connect(self._path)
            if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                return False
            last, is_clean = connection.execute("SELECT boot, is_clean FROM opened").fetchone()
            if not is_clean and last != boot:
                return False
            connection.execute("UPDATE opened SET boot = ?, is_clean = 0", (boot,))
            connection.execute(_GIVE_BACK)
            connection.execute("UPDATE jobs SET taken = 0 WHERE taken = 1")
        except (sqlite3.DatabaseError, TypeError) as failure:
            log.warning("queue-index-torn", file=self._path, error=str(failure), consequence="made anew")
            return False
        return True

    @contextlib.contextmanager
    def _transaction(self):
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def census(directory: str, now: float) -> dict[str, tuple[int, str]]:
    """How many messages only the file has, and the first of them, by state: ``active`` (due), ``deferred``, ``hold``.

    Beside whoever else uses it. Nothing where there is no file. Raises ``sqlite3.Error``.
    """
    found: dict[str, tuple[int, str]] = {"active": (0, ""), "deferred": (0, ""), "hold": (0, "")}
    path = os.path.join(directory, FILE)
    if not os.path.exists(path):
        return found
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        for state, count, first in file.execute(_CENSUS, (NEVER, now)):
            found[state] = (count, first)
    return found


@contextlib.contextmanager
def due_times(directory: str) -> Iterator[Callable[[str], float]]:
    """When the runner looks at a message again, beside whoever else uses the file; 0 where that has nothing of it."""
    path = os.path.join(directory, FILE)
    if not os.path.exists(path):
        yield lambda _: 0.0
        return
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:

        def due(name: str) -> float:
            try:
                return file.execute(_DUE_AGAIN, (name,)).fetchone()[0] or 0.0
            except sqlite3.Error:
                return 0.0

        yield due
