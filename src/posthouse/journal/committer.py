"""The thread that makes commits durable: all that waits with one write and one sync.

For threads that commit, and for event loops where ``loopcommitter`` can't be had. Whoever waits puts the files in
place once the record is durable: a coroutine's in its loop, so that this thread is only awake to write, and the two
don't fight over the interpreter for every small system call.

Invariants:
  1. A waiter is released only after the fdatasync that covers its record returned and its files are in place.
  2. An entry that fails is cancelled on record before its waiter hears of it: recovery won't bring it back.
  3. After a failed write or sync its segment gets no further record; the next batch begins another.
  4. A segment's checkpoint waits until all its entries are in place (``Segment.unplaced``).
"""

import asyncio
import concurrent.futures
import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from posthouse.journal import format as layout
from posthouse.journal.operations import Cancel, Operation
from posthouse.journal.placing import body_of, place
from posthouse.journal.pool import SegmentPool
from posthouse.journal.segment import Segment
from posthouse.runtime.log import log
from posthouse.runtime.measures import JOURNAL_COMMITS, JOURNAL_SECONDS

BATCH_ENTRIES = 256  # two buffers each: well below IOV_MAX
BATCH_BYTES = 4 * 1024 * 1024


class Entry:
    """One commit on its way; ``loop`` is None where a thread waits rather than a coroutine."""

    __slots__ = ("data", "error", "future", "loop", "meta", "operations", "stamp")

    def __init__(
        self,
        data: bytes,
        operations: Sequence[Operation],
        future: "asyncio.Future[None] | concurrent.futures.Future[None]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.data = data
        self.operations = operations
        self.future = future
        self.loop = loop
        self.stamp = 0
        self.meta = b""
        self.error: Exception | None = None

    @property
    def is_cancellation(self) -> bool:
        return bool(self.operations) and type(self.operations[0]) is Cancel

    def cancel(self) -> None:
        """Turns into the record that takes this one back."""
        self.data = b""
        self.operations = (Cancel(self.stamp),)


class Stamps:
    """Numbers the records of one journal in their order, from any thread: the boot's clock in nanoseconds."""

    def __init__(self) -> None:
        self._last = 0
        self._gate = threading.Lock()

    def next(self) -> int:
        with self._gate:
            self._last = max(self._last + 1, time.monotonic_ns())
            return self._last


class Committer:
    """Takes entries from any thread; hands ``retire`` each segment that is full, failed or asked for."""

    def __init__(self, pool: SegmentPool, stamps: Stamps, retire: Callable[[Segment], None]) -> None:
        self._pool = pool
        self._stamps = stamps
        self._retire = retire
        self._inbox: SimpleQueue[Entry | bool] = SimpleQueue()  # False ends the thread
        self._segment: Segment | None = None
        self._handed: deque[tuple[Segment, list[Entry]]] = deque()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="journal-committer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, entry: Entry) -> None:
        self._inbox.put(entry)

    def switch(self) -> None:
        """Retires the current segment, if it has records, after what was submitted so far."""
        segment = self._segment
        if segment is not None and segment.has_records:
            self._inbox.put(True)

    def close(self) -> None:
        """Commits what was submitted so far, retires the segment and ends the thread.

        What still waits for its loop is put in place here: the loop may be the one that waits for us.
        """
        self._is_closing = True
        self._inbox.put(False)
        self._thread.join()
        while self._handed:
            self._place_handed()

    def _run(self) -> None:
        token: bool | None = None
        while token is not False:
            entries, token = self._collect()
            try:
                self._commit(entries)
            except Exception as error:  # noqa: BLE001 (a bug of ours must not leave sessions waiting for ever)
                log.exception("journal-bug")
                for entry in entries:
                    entry.error = entry.error or error
                release(entries)
            if token is not None and self._segment is not None and self._segment.has_records:
                self._leave_segment(self._segment)
        if self._segment is not None:
            self._segment.close()

    def _collect(self) -> tuple[list[Entry], bool | None]:
        """Waits for something, then takes what is there, up to a batch's limits or a token."""
        entries: list[Entry] = []
        total = 0
        inbox = self._inbox
        while True:
            item = inbox.get()
            if isinstance(item, bool):
                return entries, item
            entries.append(item)
            total += len(item.data)
            if len(entries) >= BATCH_ENTRIES or total >= BATCH_BYTES or inbox.empty():
                return entries, None

    def _commit(self, entries: list[Entry]) -> None:
        """Writes, places and releases all of them, in as many batches as the segments' room asks for."""
        waiting = self._encoded(entries)
        failed: list[Entry] = []
        while waiting:
            try:
                segment = self._segment_for(waiting[0])
            except OSError as error:
                log.error("journal-unavailable", error=str(error))
                for entry in waiting:
                    entry.error = entry.error or error
                release(waiting)
                break
            count = fitting(waiting, segment.room)
            batch, waiting = waiting[:count], waiting[count:]
            failed += self._write(segment, batch)
        if failed:
            for entry in failed:
                entry.cancel()
            self._commit(failed)

    def _encoded(self, entries: list[Entry]) -> list[Entry]:
        """Stamps them; those that can't be written down are released with their error."""
        encoded: list[Entry] = []
        for entry in entries:
            try:
                encode(entry, self._stamps.next(), self._pool.capacity)
            except (OSError, TypeError, ValueError) as error:
                entry.error = error
                release([entry])
            else:
                encoded.append(entry)
        return encoded

    def _segment_for(self, entry: Entry) -> Segment:
        """One with room for this entry at least. Raises OSError."""
        if self._segment is not None and self._segment.room < record_length(entry):
            self._leave_segment(self._segment)
        if self._segment is None:
            self._segment = self._pool.take()
        return self._segment

    def _leave_segment(self, segment: Segment) -> None:
        self._segment = None
        self._retire(segment)

    def _write(self, segment: Segment, batch: list[Entry]) -> list[Entry]:
        """Makes a batch durable and puts it in place; releases it and returns the entries to cancel."""
        began = time.monotonic()
        try:
            segment.write(buffers_of(batch, segment.seed))
        except OSError as error:
            # What a failed sync left on disk is unknown, and the next one would not tell.
            log.error("journal-write-failed", segment=segment.path, error=str(error))
            segment.trusted = False
            self._leave_segment(segment)
            for entry in batch:
                entry.error = entry.error or error
        else:
            JOURNAL_SECONDS.observe(time.monotonic() - began)
            JOURNAL_COMMITS.observe(len(batch))
            for entry in batch:
                segment.note(entry.stamp, entry.operations)
            return self._hand_over(segment, batch)
        failed = [entry for entry in batch if not entry.is_cancellation]
        release([entry for entry in batch if entry not in failed])
        return failed

    def _hand_over(self, segment: Segment, batch: list[Entry]) -> list[Entry]:
        """Lets each waiter's loop put its files in place; places those of threads here and returns what failed."""
        failed: list[Entry] = []
        for loop, entries in by_loop(batch).items():
            if loop is not None and not self._is_closing:
                segment.unplaced_add(len(entries))
                self._handed.append((segment, entries))
                try:
                    loop.call_soon_threadsafe(self._place_handed)
                    continue
                except RuntimeError:  # the loop is closed: nobody waits any more
                    self._handed.pop()
                    segment.unplaced_add(-len(entries))
            failed += put_in_place(entries)
            release([entry for entry in entries if entry not in failed] if failed else entries)
        return failed

    def _place_handed(self) -> None:
        """In the waiters' loop: the files of one batch, then the waiters."""
        try:
            segment, entries = self._handed.popleft()
        except IndexError:
            return  # close() was quicker
        try:
            failed = put_in_place(entries)
        finally:
            segment.unplaced_add(-len(entries))
        for entry in failed:
            entry.cancel()
            if not self._is_closing:
                self._inbox.put(entry)
        settle([entry for entry in entries if entry not in failed or self._is_closing] if failed else entries)


def put_in_place(entries: list[Entry]) -> list[Entry]:
    """Their files; returns those that got an error instead."""
    failed: list[Entry] = []
    for entry in entries:
        if entry.error is not None:
            continue  # a cancellation, which is on record by now
        try:
            place(entry.operations, body_of(entry.data))
        except (OSError, ValueError) as error:
            entry.error = error
            failed.append(entry)
    return failed


def encode(entry: Entry, stamp: int, capacity: int) -> None:
    """Raises OSError, TypeError or ValueError where it can't be written down."""
    entry.stamp = stamp
    entry.meta = layout.encode_meta(stamp, entry.operations)
    if record_length(entry) > capacity:
        raise OSError(errno.EMSGSIZE, "more operations than a segment of the journal holds")


def record_length(entry: Entry) -> int:
    return layout.OVERHEAD + len(entry.meta) + len(entry.data)


def fitting(entries: list[Entry], room: int) -> int:
    """How many of them, from the first, fit into a batch of that many octets."""
    length = 0
    for count, entry in enumerate(entries):
        length += record_length(entry)
        if length > room:
            return count
    return len(entries)


def buffers_of(batch: list[Entry], seed: int) -> list[bytes]:
    """The batch as it goes to disk: whole blocks."""
    total = sum(map(record_length, batch))
    padding = -total % layout.BLOCK
    buffers: list[bytes] = []
    for entry in batch:
        span = record_length(entry) + (padding if entry is batch[-1] else 0)
        buffers.append(layout.encode_record(seed, entry.meta, entry.data, span))
        buffers.append(entry.data)
    buffers.append(bytes(padding))
    return buffers


def by_loop(entries: list[Entry]) -> dict[asyncio.AbstractEventLoop | None, list[Entry]]:
    """The entries by who waits for them; None: threads."""
    found: dict[asyncio.AbstractEventLoop | None, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.loop, []).append(entry)
    return found


def release(entries: list[Entry]) -> None:
    """Lets those who wait go on: one call a loop, however many wait there."""
    for loop, waiting in by_loop(entries).items():
        if loop is None:
            settle(waiting)
            continue
        try:
            loop.call_soon_threadsafe(settle, waiting)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def settle(entries: list[Entry]) -> None:
    """Those who wait go on; in their loop's thread, if they are coroutines."""
    for entry in entries:
        if entry.future.done():  # its coroutine was cancelled
            continue
        if entry.error is None:
            entry.future.set_result(None)
        else:
            entry.future.set_exception(entry.error)
