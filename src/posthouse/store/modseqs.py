"""Modification sequences: what a client that was told one has missed since (RFC 7162).

Each mailbox has its highest one in its row, each message that of its last change, and each expunge leaves the
UIDs that went. docs/adr/0016-modification-sequences.md has the reasons.

Invariants:
  1. None is ever lower than one that was told before, whatever became of the index: they start from the clock in
     milliseconds, and no mailbox changes more often than that; after a crash there is a gap.
  2. Who was told one in such a gap, or one that we never gave, has seen changes that are lost: he has missed
     everything.
  3. Of the expunges the latest ``KEPT`` ranges are remembered; who asks for older ones gets every UID that no
     message has.
"""

import sqlite3
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from posthouse.message.query import Ranges, resolve_ranges
from posthouse.store.layout import Stamp

KEPT = 10_000
GAP = 1 << 12


def first(stamp: Stamp) -> int:
    """Where those of a mailbox begin that the index doesn't know; also where the clock was set back since."""
    return max(time.time_ns(), stamp.new[0], stamp.cur[0], stamp.uidlist[0]) // 1_000_000


def note_boot(database: sqlite3.Connection, boot: str) -> None:
    """Inside a transaction. The machine started anew: what was written last may be lost, though it was told."""
    if database.execute("SELECT boot FROM account").fetchone() == (boot,):
        return
    values = (time.time_ns() // 1_000_000, GAP)
    database.execute("INSERT INTO gap SELECT id, modseq, max(?, modseq + ?) FROM mailbox", values)
    database.execute("UPDATE mailbox SET modseq = max(?, modseq + ?)", values)
    database.execute("UPDATE account SET boot = ?", (boot,))


def known(database: sqlite3.Connection, mailbox: int, highest: int, modseq: int) -> int:
    """What a client that was told ``modseq`` can be believed to know: that, or 0."""
    query = "SELECT 1 FROM gap WHERE mailbox = ? AND after < ? AND ? < before LIMIT 1"
    if modseq > highest or database.execute(query, (mailbox, modseq, modseq)).fetchone():
        return 0
    return modseq


def note_expunged(database: sqlite3.Connection, mailbox: int, modseq: int, uids: Iterable[int]) -> None:
    """These UIDs went with this modification sequence."""
    rows = [(mailbox, modseq, low, high) for low, high in _runs(sorted(uids))]
    database.executemany("INSERT OR REPLACE INTO expunged VALUES (?, ?, ?, ?)", rows)
    oldest = database.execute(
        "SELECT modseq FROM expunged WHERE mailbox = ? ORDER BY modseq DESC, low DESC LIMIT 1 OFFSET ?",
        (mailbox, KEPT),
    ).fetchone()
    if oldest is not None:
        database.execute("DELETE FROM expunged WHERE mailbox = ? AND modseq <= ?", (mailbox, *oldest))
        database.execute("UPDATE mailbox SET forgotten = max(forgotten, ?) WHERE id = ?", (*oldest, mailbox))


def expunged_since(database: sqlite3.Connection, mailbox: int, modseq: int) -> Ranges | None:
    """Ranges of UIDs that went since, ascending; None where that is no longer known."""
    (forgotten,) = database.execute("SELECT forgotten FROM mailbox WHERE id = ?", (mailbox,)).fetchone()
    if modseq < forgotten:
        return None
    query = "SELECT low, high FROM expunged WHERE mailbox = ? AND modseq > ?"
    return resolve_ranges(database.execute(query, (mailbox, modseq)), 0)


def missing(ranges: Ranges, present: Sequence[int]) -> Ranges:
    """What is in ascending ranges and not in ``present``, which ascends."""
    left: list[tuple[int, int]] = []
    for low, high in ranges:
        at = low
        for uid in present[bisect_left(present, low) : bisect_right(present, high)]:
            if uid > at:
                left.append((at, uid - 1))
            at = uid + 1
        if at <= high:
            left.append((at, high))
    return tuple(left)


def common(a: Ranges, b: Ranges) -> Ranges:
    """What is in both; each has ascending ranges that are apart."""
    both: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        low, high = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if low <= high:
            both.append((low, high))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(both)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
