"""What became of TLS with other domains, counted by day: what reports to them are made of (RFC 8460 §4).

Counts wait in memory for ``FLUSH_SECONDS`` and are then added to a small SQLite file; a crash loses those few, mail
never waits for them.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections import Counter
from dataclasses import dataclass

from posthouse.base.clock import Clock
from posthouse.runtime.log import log

FLUSH_SECONDS = 10.0
KEEP_DAYS = 14
_WAITING_LIMIT = 100_000
_SCHEMA = """CREATE TABLE IF NOT EXISTS results (
    day TEXT, domain TEXT, policy TEXT, host TEXT, result TEXT, sessions INTEGER NOT NULL,
    PRIMARY KEY (day, domain, policy, host, result)
) WITHOUT ROWID"""


@dataclass(frozen=True, slots=True, order=True)
class TlsResult:
    """``day``: as in 2026-11-22, UTC. ``policy``: ``tlsa``, ``sts`` or ``no-policy-found``; ``result``:
    ``successful``, or a result type of RFC 8460 §4.3."""

    day: str
    domain: str
    policy: str
    host: str
    result: str


class TlsResults:
    """Counts for one process, added to the file at ``path``."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._waiting: Counter[TlsResult] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def count(self, domain: str, policy: str, host: str, result: str) -> None:
        """One session, or one that did not come about."""
        one = TlsResult(self._clock.now().strftime("%Y-%m-%d"), domain, policy, host, result)
        if one in self._waiting or len(self._waiting) < _WAITING_LIMIT:
            self._waiting[one] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    async def close(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._flush()
        if self._writing:
            await asyncio.wait(self._writing)

    def _flush(self) -> None:
        self._timer = None
        counts, self._waiting = self._waiting, Counter()
        task = asyncio.get_running_loop().create_task(self._write(counts))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, counts: Counter[TlsResult]) -> None:
        try:
            await asyncio.to_thread(_add, self._path, counts)
        except (sqlite3.Error, OSError) as failure:
            log.warning("tls-results-not-kept", file=self._path, error=str(failure))


def read_results(path: str) -> list[tuple[TlsResult, int]]:
    """All that is counted, by day and domain. Raises ``sqlite3.Error``. Blocks."""
    if not os.path.exists(path):
        return []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
        rows = database.execute(
            "SELECT day, domain, policy, host, result, sessions FROM results ORDER BY 1, 2, 3, 4, 5"
        )
        return [(TlsResult(*row[:5]), row[5]) for row in rows]


def _add(path: str, counts: Counter[TlsResult]) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
        database.execute(_SCHEMA)
        database.executemany(
            "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "sessions = sessions + excluded.sessions",
            [(one.day, one.domain, one.policy, one.host, one.result, count) for one, count in counts.items()],
        )
        oldest = f"-{KEEP_DAYS} days"
        database.execute("DELETE FROM results WHERE day < date((SELECT max(day) FROM results), ?)", (oldest,))
