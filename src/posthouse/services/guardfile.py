"""The file in which all processes of a host count failed logins: SQLite, without syncs, some tens of microseconds a
change.

A key is ``a ADDRESS``, ``n NETWORK``, ``u ACCOUNT``, or ``p ADDRESS ACCOUNT``: what one account's failures added to
the counters of that address and of the account, so that its next login takes back just that.

Invariants:
  1. A failure is one transaction: of all processes exactly one hears that something is shut out from now on.
  2. Rows are bounded. First to go is what has failed once, what is shut out goes last; within that, oldest first.
  3. No password can be read from it, nor found by trying: of those that were wrong, 32 bits of a keyed hash stay.
"""

# ruff: noqa: S608 - what is put into statements are names of ours and question marks.

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

WINDOW_SECONDS = 600.0
"""Failures count together while the first of them is not longer ago."""
DAY = 86_400.0
KNOWN_SECONDS = 30 * DAY
MAX_ROWS = 100_000
MAX_KNOWN_ROWS = 500_000
MAX_KNOWN_PLACES = 50
"""Addresses that are remembered for an account: nobody pushes out others' with one account of their own."""
MARK_BYTES = 4
_MARKS = 8
_TIDY_EVERY = 200
_LOCK_SECONDS = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (
    key TEXT PRIMARY KEY, failures INTEGER NOT NULL, since REAL NOT NULL, last REAL NOT NULL,
    blocked_until REAL NOT NULL, blocks INTEGER NOT NULL, login TEXT NOT NULL, marks BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (
    account TEXT, address TEXT, last REAL NOT NULL, PRIMARY KEY (account, address)
) WITHOUT ROWID;
"""
_COLUMNS = "key, failures, since, last, blocked_until, blocks, login, marks"
_SAVE = f"REPLACE INTO counters ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_OLD = "DELETE FROM counters WHERE last < ? AND blocked_until < ?"
_LEAST = """
DELETE FROM counters WHERE key IN (
    SELECT key FROM counters ORDER BY blocked_until > ?, failures > 1, last LIMIT ?
)
"""
_ELSEWHERE = """
DELETE FROM known WHERE account = ?1
AND address NOT IN (SELECT address FROM known WHERE account = ?1 ORDER BY last DESC LIMIT ?2)
"""


@dataclass(frozen=True, slots=True)
class Counter:
    """The failures of one key. Times are seconds since 1970; ``login`` is the last that was tried."""

    key: str
    failures: int = 0
    since: float = 0.0
    last: float = 0.0
    blocked_until: float = 0.0
    blocks: int = 0
    login: str = ""
    marks: bytes = b""

    @property
    def kind(self) -> str:
        return self.key[0]

    @property
    def name(self) -> str:
        return self.key[2:]

    def is_blocked(self, now: float) -> bool:
        # What began in the future was counted by a clock that has been set back since: it could shut out for years.
        return self.since <= now < self.blocked_until


@dataclass(frozen=True, slots=True)
class Limit:
    """``failures`` that shut out, 0: none do; and for how long the first time."""

    failures: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed login: the keys to count it under with their limits, the account's, and the pair's.

    ``leader``: the counter whose window the pair's follows. ``mark``: stands for the password; empty: not known.
    """

    limits: dict[str, Limit]
    account: str
    pair: str
    leader: str
    login: str
    mark: bytes


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters after a failure, by key, and those of them that shut out from now on.

    ``is_repeated``: the password was known to be wrong, and nothing has been counted.
    """

    counters: dict[str, Counter]
    blocked: tuple[Counter, ...] = ()
    is_repeated: bool = False


class GuardFile:
    """One connection. Every method may raise ``sqlite3.Error``; none is called by two threads at a time."""

    def __init__(self, path: str, *, waits: bool = True) -> None:
        """Opens the file, and makes it where there is none. Raises ``sqlite3.Error``, ``OSError``.

        ``waits``: for another process that writes; opening does in any case.
        """
        # Only where there is none: closing an open file takes SQLite's locks from all of this process's connections.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(time.monotonic() + _LOCK_SECONDS)
            if not waits:
                self._connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            self._connection.close()
            raise
        self._untidy = _TIDY_EVERY

    def _prepare(self, deadline: float) -> None:
        """SQLite itself does not wait for others that make, or close, the file at the same moment."""
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = OFF")
                self._connection.executescript(_SCHEMA)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def close(self) -> None:
        self._connection.close()

    def counters(self, keys: Sequence[str]) -> list[Counter]:
        """Those of the counters that there are."""
        marks = ", ".join("?" * len(keys))
        return self._rows(f"WHERE key IN ({marks})", keys)

    def is_known(self, account: str, address: str, now: float) -> bool:
        """Whether that account has logged in from there in the last 30 days."""
        row = self._one("SELECT last FROM known WHERE account = ? AND address = ?", (account, address))
        return bool(row) and row[0] > now - KNOWN_SECONDS

    def fail(self, attempt: Attempt, now: float) -> Counted:
        """Count a failed login. The same wrong password for the same account counts once."""
        with self._transaction():
            keys = [*attempt.limits, attempt.pair]
            found = {key: Counter(key) for key in keys} | {one.key: one for one in self.counters(keys)}
            account = found[attempt.account]
            if attempt.mark and attempt.mark in _split(account.marks):
                return Counted(found, is_repeated=True)
            blocked: list[Counter] = []
            for key, limit in attempt.limits.items():
                before, after = found[key], _counted(found[key], limit, attempt.login, now)
                if after.is_blocked(now) and not before.is_blocked(now):
                    blocked.append(after)
                found[key] = after
            marks = (attempt.mark + account.marks)[: _MARKS * MARK_BYTES]
            found[attempt.account] = replace(found[attempt.account], marks=marks)
            found[attempt.pair] = _follow(found[attempt.pair], found[attempt.leader], now)
            self._save(found.values())
            self._tidy(now)
        return Counted(found, tuple(blocked))

    def forgive(self, pair: str, owners: Iterable[str]) -> None:
        """After a login: take what the pair has counted from its owners' counters."""
        with self._transaction():
            for one in self.counters([pair]):
                # A counter that has begun anew since has none of them.
                mine = [owner for owner in self.counters(list(owners)) if one.last >= owner.since]
                self._save(replace(owner, failures=max(owner.failures - one.failures, 0)) for owner in mine)
            self._connection.execute("DELETE FROM counters WHERE key = ?", (pair,))

    def know(self, account: str, address: str, now: float) -> None:
        """Remember that the account has logged in from there."""
        with self._transaction():
            self._connection.execute("REPLACE INTO known VALUES (?, ?, ?)", (account, address, now))
            self._connection.execute(_ELSEWHERE, (account, MAX_KNOWN_PLACES))
            self._tidy(now)

    def all(self) -> list[Counter]:
        """Every counter but the pairs'."""
        return self._rows("WHERE key < 'p' OR key >= 'q'")

    def remove(self, keys: Iterable[str]) -> None:
        """Forget those counters, and the pairs of an address or account among them."""
        with self._transaction():
            gone = set(keys)
            addresses = {key[2:] for key in gone if key.startswith("a ")}
            accounts = {key[2:] for key in gone if key.startswith("u ")}
            for (key,) in self._connection.execute(
                "SELECT key FROM counters WHERE key >= 'p' AND key < 'q'"
            ).fetchall():
                address, _, account = key[2:].partition(" ")
                if address in addresses or account in accounts:
                    gone.add(key)
            self._connection.executemany("DELETE FROM counters WHERE key = ?", [(key,) for key in gone])

    def _tidy(self, now: float) -> None:
        """Every so often, and with the first change that this process makes."""
        self._untidy += 1
        if self._untidy < _TIDY_EVERY:
            return
        self._untidy = 0
        self._connection.execute(_OLD, (now - DAY, now - DAY))
        self._connection.execute("DELETE FROM known WHERE last < ?", (now - KNOWN_SECONDS,))
        # Other processes add some before they come by here too: there has to be room for those.
        rows = self._count("counters")
        if rows > MAX_ROWS * 0.95:
            self._connection.execute(_LEAST, (now, rows - int(MAX_ROWS * 0.9)))
        known = self._count("known") - MAX_KNOWN_ROWS
        if known > 0:
            oldest = "(SELECT account, address FROM known ORDER BY last LIMIT ?)"
            self._connection.execute(f"DELETE FROM known WHERE (account, address) IN {oldest}", (known,))

    def _count(self, table: str) -> int:
        return int(self._one(f"SELECT count(*) FROM {table}")[0])

    def _one(self, sql: str, parameters: Sequence[object] = ()) -> tuple[float, ...]:
        # fetchall() ends the statement; an open one would keep this connection in an old state of the file.
        rows = self._connection.execute(sql, parameters).fetchall()
        return rows[0] if rows else ()

    def _rows(self, condition: str, parameters: Sequence[str] = ()) -> list[Counter]:
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM counters {condition}", parameters)
        return [Counter(*row) for row in rows.fetchall()]

    def _save(self, counters: Iterable[Counter]) -> None:
        rows = [
            (one.key, one.failures, one.since, one.last, one.blocked_until, one.blocks, one.login, one.marks)
            for one in counters
        ]
        self._connection.executemany(_SAVE, rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _counted(counter: Counter, limit: Limit, login: str, now: float) -> Counter:
    """A counter after one more failure."""
    if counter.is_blocked(now):
        return replace(counter, last=now, login=login)
    is_over = counter.blocked_until > 0 or not counter.since <= now <= counter.since + WINDOW_SECONDS
    failures, since = (1, now) if is_over else (counter.failures + 1, counter.since)
    blocks = counter.blocks if now - max(counter.last, counter.blocked_until) < DAY else 0
    blocked_until = 0.0
    if limit.failures and failures >= limit.failures:
        blocked_until = now + min(limit.seconds * 2.0 ** min(blocks, 30), DAY)
        blocks += 1
    return replace(
        counter, failures=failures, since=since, last=now, blocked_until=blocked_until, blocks=blocks, login=login
    )


def _follow(pair: Counter, leader: Counter, now: float) -> Counter:
    """A pair's counter after one more failure: never more than what its leader's has of it now."""
    failures = pair.failures + 1 if pair.since == leader.since else 1
    return replace(pair, failures=failures, since=leader.since, last=now)


def _split(marks: bytes) -> list[bytes]:
    return [marks[start : start + MARK_BYTES] for start in range(0, len(marks), MARK_BYTES)]
