"""Counters that all workers share: memory that the supervisor makes before it forks, and no lock.

Each worker writes to a region of its own, and what counts is the sum over all regions. A worker that comes in the
place of one that died begins with an empty region, so that what died with the other is counted no more.

Invariants:
  1. Memory is bounded: a key that finds its place full drives out the oldest that is not in use, or isn't counted.
  2. To add and to read costs a few steps, however many keys there are.
"""

import mmap
import struct
from dataclasses import dataclass
from hashlib import blake2b

KINDS = ("connections", "messages", "recipients", "sessions")
SESSIONS = 3
SLOTS = 16_384
_PLACES = 8
_ROW = struct.Struct("<8s5I4x")
_BUCKET = _ROW.size * _PLACES
_EMPTY = bytes(8)


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been counted in a window, and the sessions that there are now."""

    connections: int = 0
    messages: int = 0
    recipients: int = 0
    sessions: int = 0


class Counters:
    """The memory, made before the fork. ``slots``: how many keys a worker has room for."""

    def __init__(self, workers: int, slots: int = SLOTS) -> None:
        self._workers = workers
        self._buckets = slots // _PLACES
        self._memory = mmap.mmap(-1, workers * self._buckets * _BUCKET)
        self._mine = 0

    def of_worker(self, index: int) -> "Counters":
        """After the fork: whose region is written to from now on; it is emptied."""
        self._mine = index
        size = self._buckets * _BUCKET
        self._memory[index * size : (index + 1) * size] = bytes(size)
        return self

    def add(self, name: str, kind: int, amount: int, window: int) -> None:
        """Add to a counter; ``kind`` is an index into ``KINDS``, ``window`` the number of the time window."""
        key = _key(name)
        offset = self._offset(key, self._mine)
        rows = list(_ROW.iter_unpack(self._memory[offset : offset + _BUCKET]))
        place = next((number for number, row in enumerate(rows) if row[0] == key), -1)
        if place < 0:
            idle = [(row[1], number) for number, row in enumerate(rows) if not row[2 + SESSIONS]]
            if not idle or amount < 0:
                return
            place = min(idle)[1]
            counts = [0, 0, 0, 0]
        else:
            counts = list(rows[place][2:])
            if rows[place][1] != window:
                counts[:SESSIONS] = [0] * SESSIONS
        counts[kind] = min(max(counts[kind] + amount, 0), 0xFFFFFFFF)
        _ROW.pack_into(self._memory, offset + place * _ROW.size, key, window & 0xFFFFFFFF, *counts)

    def total(self, name: str, window: int) -> Counts:
        """The sum over all workers."""
        key = _key(name)
        sums = [0, 0, 0, 0]
        for worker in range(self._workers):
            offset = self._offset(key, worker)
            found = self._memory[offset : offset + _BUCKET]
            if key not in found:
                continue
            for row in _ROW.iter_unpack(found):
                if row[0] == key:
                    sums[SESSIONS] += row[2 + SESSIONS]
                    if row[1] == window & 0xFFFFFFFF:
                        sums[:SESSIONS] = [sums[kind] + row[2 + kind] for kind in range(SESSIONS)]
        return Counts(*sums)

    def _offset(self, key: bytes, worker: int) -> int:
        bucket = int.from_bytes(key[:4], "little") % self._buckets
        return (worker * self._buckets + bucket) * _BUCKET


def _key(name: str) -> bytes:
    key = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return key if key != _EMPTY else b"\1" * 8
