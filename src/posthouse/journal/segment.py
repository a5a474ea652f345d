"""One file of a journal: made full of zeros once, then written over and over.

Invariants:
  1. All its blocks are allocated and written before its first use: fdatasync moves data only, no metadata.
  2. ``renew`` is on disk before a record of the new epoch is written.
"""

import errno
import os
import re
import threading
from collections.abc import Iterable, Iterator

from posthouse.journal import format as layout
from posthouse.journal.format import BLOCK
from posthouse.journal.operations import Append, Gone, Operation, Put
from posthouse.journal.placing import sync_directory

SUFFIX = ".segment"
SEGMENT_NAME = re.compile(r"[0-9]+\.segment")
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def current_boot_id(path: str = BOOT_ID) -> str:
    """What tells this boot of the machine from every other."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


class Segment:
    """An open segment. ``directories`` and ``gone`` say what a checkpoint must know of its records."""

    __slots__ = (
        "_all_placed",
        "_unplaced",
        "boot_id",
        "directories",
        "epoch",
        "fd",
        "gone",
        "path",
        "position",
        "seed",
        "size",
        "trusted",
    )

    def __init__(self, path: str, fd: int, size: int) -> None:
        self.path = path
        self.fd = fd
        self.size = size
        self.boot_id = ""
        self.epoch = 0
        self.seed = 0
        self.position = BLOCK
        self.trusted = True
        self.directories: set[str] = set()
        self.gone: list[tuple[int, str]] = []
        self._unplaced = 0
        self._all_placed = threading.Condition()

    @classmethod
    def create(cls, path: str, size: int, boot_id: str, epoch: int) -> "Segment":
        """Makes the file, all of it on disk. Raises OSError with nothing left."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        segment = cls(path, fd, size)
        try:
            os.posix_fallocate(fd, 0, size)  # a disk without the room says so before anything is written
            zeros = bytes(1024 * 1024)
            for start in range(0, size, len(zeros)):
                os.pwrite(fd, zeros[: size - start], start)
            segment.renew(boot_id, epoch)
            os.fsync(fd)
            sync_directory(os.path.dirname(path))
        except BaseException:
            segment.discard()
            raise
        return segment

    @classmethod
    def open(cls, path: str) -> "tuple[Segment, list[layout.Record]] | None":
        """One of an earlier process and its records; None where there is no whole header. Raises OSError."""
        header, found = read_segment(path)
        if header is None:
            return None
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        segment = cls(path, fd, os.fstat(fd).st_size)
        segment.boot_id, segment.epoch, segment.seed = header.boot_id, header.epoch, header.seed
        kept = list(found)
        for record in kept:
            segment.note(record.stamp, record.operations)
            segment.position = record.offset + record.span
        return segment, kept

    @property
    def journal(self) -> str:
        """The directory it belongs to."""
        return os.path.dirname(self.path)

    @property
    def has_records(self) -> bool:
        return self.position > BLOCK

    @property
    def room(self) -> int:
        return self.size - self.position

    def renew(self, boot_id: str, epoch: int) -> None:
        """Drops its records, durably, and readies it for new ones."""
        header, self.seed = layout.encode_header(boot_id, epoch)
        os.pwrite(self.fd, header, 0)
        os.fdatasync(self.fd)
        self.boot_id = boot_id
        self.epoch = epoch
        self.position = BLOCK
        self.directories = set()
        self.gone = []

    def put(self, buffers: list[bytes]) -> None:
        """A batch, whole blocks; durable after the next sync."""
        length = sum(map(len, buffers))
        if os.pwritev(self.fd, buffers, self.position) != length:
            raise OSError(errno.EIO, "short write", self.path)
        self.position += length

    def write(self, buffers: list[bytes]) -> None:
        """A batch, whole blocks; durable when this returns."""
        self.put(buffers)
        os.fdatasync(self.fd)

    def unplaced_add(self, count: int) -> None:
        """Entries whose files somebody is about to put in place; negative once that is over."""
        with self._all_placed:
            self._unplaced += count
            if self._unplaced == 0:
                self._all_placed.notify_all()

    def wait_placed(self) -> None:
        """Returns when none is left."""
        with self._all_placed:
            self._all_placed.wait_for(lambda: self._unplaced == 0)

    def content(self, record: layout.Record) -> bytes:
        return os.pread(self.fd, record.content_length, record.content_offset)

    def note(self, stamp: int, operations: Iterable[Operation]) -> None:
        """Keeps what a checkpoint must know of a record."""
        for operation in operations:
            if type(operation) is Put or type(operation) is Append:
                self.directories.add(os.path.dirname(operation.path))
            elif type(operation) is Gone:
                self.gone.append((stamp, operation.path))

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def discard(self) -> None:
        """Closes and deletes it, durably."""
        self.close()
        os.unlink(self.path)
        sync_directory(self.journal)


def segment_paths(directory: str) -> list[str]:
    """The segments in one directory, in the order of their names."""
    with os.scandir(directory) as entries:
        return sorted(entry.path for entry in entries if SEGMENT_NAME.fullmatch(entry.name))


def read_segment(path: str, limit: int = -1) -> tuple[layout.Header | None, Iterator[layout.Record]]:
    """Its header and its whole records, as far as they lie within the first ``limit`` octets."""
    # Read rather than mapped: a bad block is then an OSError, not the end of the process.
    with open(path, "rb") as file:
        data = file.read(limit)
    return layout.decode_header(data), layout.records(data)
