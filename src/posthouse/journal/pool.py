"""The segments of one journal: which are free, and how many there may be.

Invariant: a segment is handed out for records only after what it held was dropped durably.
"""

import errno
import os
import threading

from posthouse.journal.format import BLOCK
from posthouse.journal.segment import SUFFIX, Segment

SPARES = 2


class SegmentPool:
    """Makes, keeps and hands out segments; from any thread."""

    def __init__(self, directory: str, size_bytes: int, boot_id: str, most: int) -> None:
        self._directory = directory
        self._size = size_bytes
        self._boot_id = boot_id
        self._most = most
        self._free: list[Segment] = []
        self._count = 0  # free ones, the current one, and those that wait for their checkpoint
        self._lost = 0
        self._epoch = 0
        self._number = 0
        self._changed = threading.Condition()

    @property
    def capacity(self) -> int:
        """The largest record that a segment holds."""
        return self._size - BLOCK

    def adopt(self, segment: Segment) -> None:
        """Counts a segment of an earlier run that a checkpoint will give back."""
        self._epoch = max(self._epoch, segment.epoch)
        self._number = max(self._number, int(os.path.basename(segment.path).removesuffix(SUFFIX)))
        self._count += 1

    def take(self) -> Segment:
        """A segment without records; waits for one where there are as many as there may be.

        Raises OSError where none can be had.
        """
        with self._changed:
            while not self._free:
                if self._count < self._most:
                    return self._create()
                if self._lost == self._count:
                    raise OSError(errno.EIO, "no checkpoint succeeds any more", self._directory)
                self._changed.wait()
            return self._free.pop()

    def take_free(self) -> Segment | None:
        """One that is there already; never waits, not even for somebody who is making one."""
        if not self._changed.acquire(blocking=False):
            return None
        try:
            return self._free.pop() if self._free else None
        finally:
            self._changed.release()

    def give(self, segment: Segment) -> None:
        """Takes back a segment whose records are not needed any more. Raises OSError where that fails."""
        with self._changed:
            if segment.trusted and segment.size == self._size and len(self._free) < SPARES:
                self._epoch += 1
                segment.renew(self._boot_id, self._epoch)
                self._free.append(segment)
            else:
                segment.discard()
                self._count -= 1
            self._changed.notify_all()

    def lose(self, segment: Segment) -> None:
        """A segment whose checkpoint failed: its records stay on disk for whoever recovers them."""
        with self._changed:
            segment.close()
            self._lost += 1
            self._changed.notify_all()

    def top_up(self) -> None:
        """Makes a spare ahead of need."""
        with self._changed:
            if not self._free and self._count < self._most:
                self._free.append(self._create())

    def close(self) -> None:
        for segment in self._free:
            segment.close()
        self._free.clear()

    def _create(self) -> Segment:
        self._number += 1
        self._epoch += 1
        path = os.path.join(self._directory, f"{self._number:08}{SUFFIX}")
        segment = Segment.create(path, self._size, self._boot_id, self._epoch)
        self._count += 1
        return segment
