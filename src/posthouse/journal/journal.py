"""The intake journal of one process: a commit returns when it is durable and in place.

Small contents go through a committer (the loop's own, or a thread), many in one sync. Large ones, and all with
``durability="fsync"``, are synced under their own names by the thread that brings them.

Invariants:
  1. Nothing is acknowledged that is not on disk: in the journal, or under its names with their directories.
  2. One directory belongs to one process. Start it after fork, and after ``recover``.
  3. Memory is bounded by what waits: one commit a session, each below ``LARGE``.
"""

import asyncio
import concurrent.futures
import errno
import fcntl
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from posthouse.journal.checkpoint import Checkpointer, read_held
from posthouse.journal.committer import Committer, Entry, Stamps
from posthouse.journal.content import Content
from posthouse.journal.loopcommitter import LoopCommitter
from posthouse.journal.operations import Append, Gone, Operation, Put
from posthouse.journal.placing import place
from posthouse.journal.pool import SegmentPool
from posthouse.journal.segment import BOOT_ID, Segment, current_boot_id, segment_paths

__all__ = ["Append", "Content", "Gone", "Journal", "NotRecovered", "Put"]

SEGMENT_BYTES = 16 * 1024 * 1024
SEGMENTS_AT_MOST = 8
LARGE = 256 * 1024
SYNC_THREADS = 4


class NotRecovered(OSError):
    """The directory holds records of another boot: ``recover`` must run first."""


class Journal:
    """Made and started in the process that uses it.

    ``segment_bytes`` is a multiple of 4096; at most ``segments`` of them lie in ``directory``.
    """

    def __init__(
        self,
        directory: str,
        *,
        durability: str = "journal",
        segment_bytes: int = SEGMENT_BYTES,
        checkpoint_seconds: float = 3.0,
        segments: int = SEGMENTS_AT_MOST,
        boot_id_path: str = BOOT_ID,
    ) -> None:
        self._directory = os.path.abspath(directory)
        self._is_journalled = durability == "journal"
        self._segment_bytes = segment_bytes
        self._checkpoint_seconds = checkpoint_seconds
        self._segments = segments
        self._boot_id_path = boot_id_path
        self._large = min(LARGE, segment_bytes // 4)
        self._gate = threading.Lock()
        self._is_open = False
        self._lock = -1
        self._pool: SegmentPool
        self._stamps: Stamps
        self._committer: Committer
        self._loop_committer: LoopCommitter | None = None
        self._checkpointer: Checkpointer
        self._syncing: ThreadPoolExecutor

    def start(self) -> None:
        """Takes the directory. Raises BlockingIOError if another process has it, NotRecovered, OSError."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        self._lock = lock_directory(self._directory)
        try:
            if self._is_journalled:
                self._start_threads(current_boot_id(self._boot_id_path))
        except BaseException:
            os.close(self._lock)
            raise
        self._syncing = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="journal-sync")
        self._is_open = True

    def close(self) -> None:
        """Finishes what was committed, checkpoints it and ends the threads. A second call does nothing."""
        with self._gate:
            if not self._is_open:
                return
            self._is_open = False
        self._syncing.shutdown()
        if self._is_journalled:
            if self._loop_committer is not None:
                self._loop_committer.close()
            self._committer.close()
            self._checkpointer.close()
            self._pool.close()
        os.close(self._lock)

    async def commit(self, content: Content | None, operations: Sequence[Operation]) -> None:
        """Returns when the operations are done and durable. Raises OSError with none of them done.

        Who is cancelled while waiting learns nothing: the commit may have happened.
        """
        loop = asyncio.get_running_loop()
        if self._is_small(content):
            future: asyncio.Future[None] = loop.create_future()
            self._submit_from(loop, Entry(content.data() if content else b"", operations, future, loop))
            await future
            return
        with self._gate:
            self._require_open()
            work = loop.run_in_executor(self._syncing, _place_synced, content, operations)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await _finish(work)
            raise
        if gone := self._gone_in(operations):
            await self.commit(None, gone)

    def commit_blocking(self, content: Content | None, operations: Sequence[Operation]) -> None:
        """The same from a thread that may wait: any but the event loop's."""
        if self._is_small(content):
            future: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._submit(Entry(content.data() if content else b"", operations, future, None))
            future.result()
            return
        with self._gate:
            self._require_open()
        _place_synced(content, operations)
        if gone := self._gone_in(operations):
            self.commit_blocking(None, gone)

    def _is_small(self, content: Content | None) -> bool:
        return self._is_journalled and (content is None or (content.in_memory and content.size <= self._large))

    def _submit_from(self, loop: asyncio.AbstractEventLoop, entry: Entry) -> None:
        self._require_open()
        committer = self._loop_committer
        if committer is None or committer.loop is not loop:
            if committer is not None:
                committer.close()
            committer = LoopCommitter(loop, self._pool, self._stamps, self._checkpointer.retire)
            self._loop_committer = committer
        if committer.works:
            committer.submit(entry)
        else:
            self._submit(entry)

    def _submit(self, entry: Entry) -> None:
        with self._gate:
            self._require_open()
            self._committer.submit(entry)

    def _require_open(self) -> None:
        if not self._is_open:
            raise OSError(errno.ESHUTDOWN, "the journal is closed", self._directory)

    def _switch(self) -> None:
        self._committer.switch()
        if self._loop_committer is not None:
            self._loop_committer.switch_soon()

    def _gone_in(self, operations: Sequence[Operation]) -> list[Gone]:
        """Goes on record only after the file that replaces the old one is durable."""
        return [item for item in operations if type(item) is Gone] if self._is_journalled else []

    def _start_threads(self, boot_id: str) -> None:
        pool = SegmentPool(self._directory, self._segment_bytes, boot_id, self._segments)
        checkpointer = Checkpointer(self._directory, pool, boot_id, self._checkpoint_seconds)
        for segment in leftover_segments(self._directory, boot_id):
            pool.adopt(segment)
            # Its records are in place, in memory at least: the process died, not the machine.
            checkpointer.retire(segment)
        checkpointer.hold(read_held(self._directory, boot_id))
        self._pool, self._checkpointer = pool, checkpointer
        self._stamps = Stamps()
        self._committer = Committer(pool, self._stamps, checkpointer.retire)
        self._committer.start()
        checkpointer.start(self._switch)


def lock_directory(directory: str) -> int:
    """A file descriptor that keeps others out until it is closed. Raises BlockingIOError."""
    fd = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise BlockingIOError(error.errno, "the journal is in use by another process", directory) from error
    return fd


def leftover_segments(directory: str, boot_id: str) -> list[Segment]:
    """The segments of an earlier process of this boot. Raises NotRecovered, OSError."""
    segments: list[Segment] = []
    for path in segment_paths(directory):
        opened = Segment.open(path)
        if opened is None:
            os.unlink(path)  # it was never finished
        else:
            segments.append(opened[0])
    if any(segment.has_records and segment.boot_id != boot_id for segment in segments):
        for segment in segments:
            segment.close()
        raise NotRecovered(errno.EBUSY, "the journal holds mail of an earlier boot; recover it first", directory)
    return segments


def _place_synced(content: Content | None, operations: Sequence[Operation]) -> None:
    def body(lf: bool) -> Iterable[bytes]:
        return content.chunks(lf=lf) if content else ()

    place(operations, body, synced=True)


async def _finish(work: "asyncio.Future[None]") -> None:
    """Waits, cancelled or not: the thread still reads the content that the caller is about to close."""
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            continue
