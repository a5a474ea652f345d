"""The thread that makes what was put in place durable there, so that segments can be used again.

Invariants:
  1. A segment is given back only after every file system its records name was synced without an error.
  2. Segments are given back in the order of their use: a cancellation never goes before what it cancels.
  3. A Gone outlives every record it may have to hold against, also those in other processes' journals.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable
from itertools import chain
from queue import Empty, SimpleQueue

from posthouse.journal import format as layout
from posthouse.journal.operations import Gone
from posthouse.journal.placing import sync_directory, write_all
from posthouse.journal.pool import SegmentPool
from posthouse.journal.segment import Segment, read_segment, segment_paths
from posthouse.runtime.log import log

HELD = "held.journal"
HELD_AT_MOST = 100_000
FIRST_RECORD = 1024 * 1024  # more than the first record of a segment takes

_libc = ctypes.CDLL(None, use_errno=True)


class Checkpointer:
    """Takes retired segments; asks for one by ``switch`` every ``seconds``."""

    def __init__(self, directory: str, pool: SegmentPool, boot_id: str, seconds: float) -> None:
        self._directory = directory
        self._pool = pool
        self._boot_id = boot_id
        self._seconds = seconds
        self._inbox: SimpleQueue[Segment | None] = SimpleQueue()
        self._held: list[tuple[int, str]] = []
        self._thread = threading.Thread(target=self._run, name="journal-checkpoint", daemon=True)
        self._switch: Callable[[], None] = lambda: None

    def start(self, switch: Callable[[], None]) -> None:
        self._switch = switch
        self._thread.start()

    def retire(self, segment: Segment) -> None:
        self._inbox.put(segment)

    def hold(self, gone: Iterable[tuple[int, str]]) -> None:
        """What an earlier run of this journal held; before ``start``."""
        self._held.extend(gone)

    def close(self) -> None:
        """Ends the thread after the segments that were retired so far."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        going_on = True
        while going_on:
            if self._inbox.empty():
                self._top_up()
            try:
                segments = [self._inbox.get(timeout=self._seconds)]
            except Empty:
                self._switch()
                continue
            while not self._inbox.empty():
                segments.append(self._inbox.get())
            going_on = segments[-1] is not None
            self._checkpoint([segment for segment in segments if segment is not None])

    def _top_up(self) -> None:
        try:
            self._pool.top_up()
        except OSError as error:
            log.warning("journal-no-spare-segment", error=str(error))

    def _checkpoint(self, segments: list[Segment]) -> None:
        for segment in segments:
            segment.wait_placed()
        try:
            sync_file_systems(set(chain.from_iterable(segment.directories for segment in segments)))
        except OSError as error:
            # Whoever syncs again is told that all is well, though pages were lost: keep the records.
            log.error("journal-checkpoint-failed", error=str(error))
            for segment in segments:
                self._pool.lose(segment)
            return
        try:
            self._hold([*self._held, *chain.from_iterable(segment.gone for segment in segments)])
        except OSError as error:
            log.warning("journal-hold-failed", error=str(error))
        for segment in segments:
            try:
                self._pool.give(segment)
            except OSError as error:
                log.error("journal-segment-lost", segment=segment.path, error=str(error))
                self._pool.lose(segment)

    def _hold(self, gone: list[tuple[int, str]]) -> None:
        """Keeps, in a file, those that an older record in another journal may have to be told."""
        if not gone:
            return
        oldest = oldest_stamp_beside(self._directory, self._boot_id)
        held = [item for item in gone if oldest is not None and item[0] > oldest][-HELD_AT_MOST:]
        if held or self._held:
            write_held(self._directory, self._boot_id, held)
        self._held = held


def oldest_stamp_beside(directory: str, boot_id: str) -> int | None:
    """The stamp of the oldest record in the other journals of this host, or None if they are all empty."""
    stamps: list[int] = []
    with os.scandir(os.path.dirname(directory)) as entries:
        others = [entry.path for entry in entries if entry.is_dir() and entry.path != directory]
    for path in chain.from_iterable(map(segment_paths, others)):
        try:
            header, found = read_segment(path, FIRST_RECORD)
        except OSError:
            continue  # given back and deleted meanwhile
        first = next(found, None)
        if header is not None and header.boot_id == boot_id and first is not None:
            stamps.append(first.stamp)
    return min(stamps, default=None)


def write_held(directory: str, boot_id: str, held: list[tuple[int, str]]) -> None:
    """Replaces the file of held Gones: a small segment that is written once."""
    header, seed = layout.encode_header(boot_id, 0)
    buffers = [header]
    for stamp, path in held:
        meta = layout.encode_meta(stamp, [Gone(path)])
        buffers.append(layout.encode_record(seed, meta, b"", layout.OVERHEAD + len(meta)))
    path = os.path.join(directory, HELD)
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, [b"".join(buffers)])
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(path + ".new", path)
    sync_directory(directory)


def read_held(directory: str, boot_id: str) -> list[tuple[int, str]]:
    """The Gones that an earlier process of this boot held."""
    try:
        header, found = read_segment(os.path.join(directory, HELD))
    except FileNotFoundError:
        return []
    if header is None or header.boot_id != boot_id:
        return []
    return [(record.stamp, item.path) for record in found for item in record.operations if type(item) is Gone]


def sync_file_systems(directories: Iterable[str]) -> None:
    """syncfs(2) once for each file system that these lie on. Raises OSError."""
    done: set[int] = set()
    for directory in directories:
        fd = _open_existing(directory)
        try:
            device = os.fstat(fd).st_dev
            if device not in done and _libc.syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), directory)
            done.add(device)
        finally:
            os.close(fd)


def _open_existing(directory: str) -> int:
    """The directory, or what is left of the way to it: it may have been removed with all that was in it."""
    while True:
        try:
            return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            directory = os.path.dirname(directory)
