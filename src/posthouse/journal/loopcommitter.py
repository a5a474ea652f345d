"""Commits of an event loop, by the loop itself: all that waits with one write, while the kernel syncs the last one.

What ``committer`` does in a thread, without one: nobody waits for the interpreter between a sync and the 250 that it
allows. Where the kernel doesn't offer that (``kernelsync``), and for threads that commit, the thread is there.

The invariants are those of ``committer``.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from posthouse.journal import committer as batches
from posthouse.journal.committer import BATCH_BYTES, BATCH_ENTRIES, Entry, Stamps
from posthouse.journal.kernelsync import KernelSync
from posthouse.journal.pool import SegmentPool
from posthouse.journal.segment import Segment
from posthouse.runtime.log import log
from posthouse.runtime.measures import JOURNAL_COMMITS, JOURNAL_SECONDS


class LoopCommitter:
    """For the coroutines of one loop, whose thread calls everything but ``switch_soon``."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pool: SegmentPool, stamps: Stamps, retire: Callable[[Segment], None]
    ) -> None:
        self.loop = loop
        self._pool = pool
        self._stamps = stamps
        self._retire = retire
        self._sync: KernelSync | None = KernelSync.open(loop, self._synced)
        self._waiting: deque[Entry] = deque()
        self._batch: list[Entry] = []  # on its way to the disk
        self._segment: Segment | None = None
        self._taking: Future[Segment] | None = None
        self._taker: ThreadPoolExecutor | None = None
        self._began = 0.0
        self._is_due = False
        self._must_leave = False

    @property
    def works(self) -> bool:
        return self._sync is not None

    def submit(self, entry: Entry) -> None:
        """Sets the entry's future once it is durable and in place, or has failed."""
        try:
            batches.encode(entry, self._stamps.next(), self._pool.capacity)
        except (OSError, TypeError, ValueError) as error:
            entry.error = error
            batches.settle([entry])
            return
        self._waiting.append(entry)
        if not self._is_due and not self._batch:
            self._is_due = True
            self.loop.call_soon(self._begin_due)  # those who come in the same round share the sync

    def switch_soon(self) -> None:
        """From any thread: retire the current segment, if it has records."""
        if self._segment is not None and self._segment.has_records:
            try:
                self.loop.call_soon_threadsafe(self._switch)
            except RuntimeError:
                pass  # the loop is closed; ``close`` retires it

    def close(self) -> None:
        """Commit what was submitted so far, without the loop, and retire the segment."""
        sync = self._sync
        if sync is None:
            return
        while self._batch or self._waiting or self._taking is not None:
            if self._taking is not None:
                self._took(self._taking)
            elif self._batch:
                self._synced(sync.wait())
            else:
                self._begin()
        if self._segment is not None and self._segment.has_records:
            self._leave(self._segment)
        elif self._segment is not None:
            self._segment.close()
        sync.close()
        self._sync = self._segment = None
        if self._taker is not None:
            self._taker.shutdown()

    def _begin_due(self) -> None:
        self._is_due = False
        self._begin()

    def _begin(self) -> None:
        """Write what waits, as far as it fits into a batch, and let the kernel sync it."""
        while self._sync is not None and self._waiting and not self._batch and self._taking is None:
            segment = self._segment_for(self._waiting[0])
            if segment is None:
                return
            batch = self._next_batch(segment)
            self._began = time.monotonic()
            try:
                segment.put(batches.buffers_of(batch, segment.seed))
                self._sync.start(segment.fd)
            except OSError as error:
                self._failed(segment, batch, error)
            else:
                self._batch = batch

    def _next_batch(self, segment: Segment) -> list[Entry]:
        waiting, batch, total = self._waiting, list[Entry](), 0
        while waiting and len(batch) < BATCH_ENTRIES and total < BATCH_BYTES:
            total += batches.record_length(waiting[0])
            if total > segment.room:
                break
            batch.append(waiting.popleft())
        return batch

    def _synced(self, error: OSError | None) -> None:
        segment, batch = self._segment, self._batch
        assert segment is not None
        self._batch = []
        try:
            if error is not None:
                self._failed(segment, batch, error)
            else:
                self._durable(segment, batch)
            if self._must_leave:
                self._switch()
            self._begin()
        except Exception as bug:  # noqa: BLE001 - a bug of ours must not leave sessions waiting for ever
            log.exception("journal-bug")
            waiting, self._waiting = list(self._waiting), deque()
            for entry in (*batch, *waiting):
                entry.error = entry.error or bug
            batches.settle([*batch, *waiting])

    def _durable(self, segment: Segment, batch: list[Entry]) -> None:
        """Put the files of a batch in place, and let those who wait go on."""
        JOURNAL_SECONDS.observe(time.monotonic() - self._began)
        JOURNAL_COMMITS.observe(len(batch))
        for entry in batch:
            segment.note(entry.stamp, entry.operations)
        segment.unplaced_add(1)
        try:
            if not self._must_leave:
                self._begin()  # the disk works while files are put in place
            failed = batches.put_in_place(batch)
        finally:
            segment.unplaced_add(-1)
        self._take_back(failed)
        batches.settle([entry for entry in batch if entry not in failed] if failed else batch)

    def _failed(self, segment: Segment, batch: list[Entry], error: OSError) -> None:
        """What a failed sync left on disk is unknown, and the next one would not tell."""
        log.error("journal-write-failed", segment=segment.path, error=str(error))
        segment.trusted = False
        self._leave(segment)
        for entry in batch:
            entry.error = entry.error or error
        failed = [entry for entry in batch if not entry.is_cancellation]
        batches.settle([entry for entry in batch if entry not in failed])
        self._take_back(failed)

    def _take_back(self, failed: list[Entry]) -> None:
        """Whoever waits hears of a failure once it is on record that this one doesn't count."""
        for entry in reversed(failed):
            entry.cancel()
            batches.encode(entry, self._stamps.next(), self._pool.capacity)
            self._waiting.appendleft(entry)

    def _segment_for(self, entry: Entry) -> Segment | None:
        """One with room for it; None if there will be one later."""
        segment = self._segment
        if segment is not None and segment.room >= batches.record_length(entry):
            return segment
        if segment is not None:
            self._leave(segment)
        self._segment = self._pool.take_free()
        if self._segment is None:
            if self._taker is None:
                self._taker = ThreadPoolExecutor(1, thread_name_prefix="journal-segment")
            self._taking = self._taker.submit(self._pool.take)
            self._taking.add_done_callback(self._took_soon)
        return self._segment

    def _took_soon(self, taking: "Future[Segment]") -> None:
        try:
            self.loop.call_soon_threadsafe(self._took, taking)
        except RuntimeError:
            pass  # the loop is closed; ``close`` asks for it

    def _took(self, taking: "Future[Segment]") -> None:
        if self._taking is not taking:
            return  # close() was quicker
        try:
            self._segment = taking.result()
        except OSError as error:
            log.error("journal-unavailable", error=str(error))
            waiting, self._waiting = list(self._waiting), deque()
            for entry in waiting:
                entry.error = entry.error or error
            batches.settle(waiting)
        finally:
            self._taking = None
        self._begin()

    def _switch(self) -> None:
        self._must_leave = bool(self._batch)
        if not self._batch and self._segment is not None and self._segment.has_records:
            self._leave(self._segment)

    def _leave(self, segment: Segment) -> None:
        self._segment = None
        self._retire(segment)
