"""Greylisting that learns: what comes for the first time has to come again; who does so often enough need not.

A client counts as its network (/24, or /64), since large senders try again from another host. The file is shared by
all processes, without syncs: losing it costs some mail some minutes.

Invariants:
  1. A file that is locked, broken or not there delays no mail: it is logged, and everybody passes.
  2. The file is bounded: what has expired goes, and then what is oldest.
  3. The event loop never waits for it; a thread does the work.
"""

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from ipaddress import ip_address, ip_network

from posthouse.base.clock import Clock, SystemClock
from posthouse.config import reception
from posthouse.message.address import lookup_key
from posthouse.runtime.log import log

GREYLIST_FILE = "greylist.db"
MAX_ROWS = 500_000
_TIDY_EVERY = 1000
RETRY_SECONDS = 60.0
_DAY = 86_400.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS triplets (key BLOB PRIMARY KEY, first REAL, last REAL, passed INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clients (network TEXT PRIMARY KEY, passes INTEGER, last REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS triplets_last ON triplets (last);
"""


def network(client: str) -> str:
    """What a client counts as; empty for a Unix socket."""
    try:
        address = ip_address(client)
    except ValueError:
        return ""
    return str(ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False))


class Greylist:
    """The greylist of one process. ``path``: the file that all processes share."""

    def __init__(self, path: str, limits: reception.Greylist, clock: Clock | None = None) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="greylist")
        self._file: sqlite3.Connection | None = None
        self._retry_at = 0.0
        self._untidy = _TIDY_EVERY

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def wait_seconds(self, client: str, sender: str, recipient: str, *, counts: bool = True) -> int:
        """How long this has to wait still; 0: let it in. ``counts``: remember that it was here."""
        if self._retry_at > self._clock.monotonic():
            return 0
        work = self._meet if counts else self._look
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, work, network(client), _key(client, sender, recipient)
            )
        except sqlite3.Error as error:
            self._retry_at = self._clock.monotonic() + RETRY_SECONDS
            log.warning(
                "greylist-unavailable",
                path=self._path,
                reason=str(error),
                advice="everybody passes; where the file is broken, remove it and a new one is made",
            )
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            return 0

    # In the thread.

    def _look(self, of: str, key: bytes) -> int:
        file, now, limits = self._open(), self._now(), self._limits
        if self._is_known(file, of, now):
            return 0
        row = file.execute("SELECT first, last, passed FROM triplets WHERE key = ?", (key,)).fetchone()
        if row is None or self._has_expired(row, now):
            return limits.wait_seconds
        return 0 if row[2] else max(0, round(row[0] + limits.wait_seconds - now))

    def _meet(self, of: str, key: bytes) -> int:
        file, now, limits = self._open(), self._now(), self._limits
        with _transaction(file):
            if self._is_known(file, of, now):
                file.execute("UPDATE clients SET last = ? WHERE network = ?", (now, of))
                return 0
            row = file.execute("SELECT first, last, passed FROM triplets WHERE key = ?", (key,)).fetchone()
            if row is None or self._has_expired(row, now):
                row = (now, now, 0)
            first, _, passed = row
            left = max(0, round(first + limits.wait_seconds - now))
            if not left and not passed:
                file.execute(
                    "INSERT INTO clients VALUES (?, 1, ?)"
                    " ON CONFLICT (network) DO UPDATE SET passes = passes + 1, last = excluded.last",
                    (of, now),
                )
                passed = 1
            file.execute("REPLACE INTO triplets VALUES (?, ?, ?, ?)", (key, first, now, passed))
            self._tidy(file, now)
        return 0 if passed else left

    def _is_known(self, file: sqlite3.Connection, of: str, now: float) -> bool:
        if not self._limits.known_after:
            return False
        row = file.execute("SELECT passes, last FROM clients WHERE network = ?", (of,)).fetchone()
        return row is not None and row[0] >= self._limits.known_after and row[1] > now - self._keep

    def _has_expired(self, row: tuple[float, float, int], now: float) -> bool:
        first, last, passed = row
        return last < now - self._keep if passed else first < now - self._limits.retry_seconds or first > now

    @property
    def _keep(self) -> float:
        return self._limits.keep_days * _DAY

    def _tidy(self, file: sqlite3.Connection, now: float) -> None:
        self._untidy += 1
        if self._untidy < _TIDY_EVERY:
            return
        self._untidy = 0
        file.execute(
            "DELETE FROM triplets WHERE last < ? OR (passed = 0 AND first < ?)",
            (now - self._keep, now - self._limits.retry_seconds),
        )
        file.execute("DELETE FROM clients WHERE last < ?", (now - self._keep,))
        for table, name in (("triplets", "key"), ("clients", "network")):
            rows = file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
            if rows > MAX_ROWS:
                oldest = f"SELECT {name} FROM {table} ORDER BY last LIMIT ?"  # noqa: S608 - ours
                file.execute(f"DELETE FROM {table} WHERE {name} IN ({oldest})", (rows - MAX_ROWS * 9 // 10,))  # noqa: S608

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            file = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
            try:
                file.execute("PRAGMA journal_mode = WAL")
                file.execute("PRAGMA synchronous = OFF")
                file.executescript(_SCHEMA)
            except sqlite3.Error:
                file.close()
                raise
            self._file = file
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _key(client: str, sender: str, recipient: str) -> bytes:
    text = "\0".join((network(client), lookup_key(sender) if sender else "", lookup_key(recipient)))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@contextlib.contextmanager
def _transaction(file: sqlite3.Connection):
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
