"""What a power cut leaves of a data directory: whatever was not made durable is partly taken away.

The disk is a bad one: an entry of a directory that was not synced may be lost or the one before it come back, of
what was written without a sync any part may be missing or zeros. A rename is atomic, and what was synced stays.
The journal's own files are kept, but for what stands behind the last record that anybody can have acted upon.
"""

import contextlib
import os
import random
import shutil
import stat
from collections import defaultdict
from pathlib import Path

from posthouse.journal.operations import Put
from posthouse.journal.segment import Segment, segment_paths
from posthouse.store.recovery import find_message

UIDLIST = "dovecot-uidlist"
INDEX = "posthouse.index"
INDEX_FILES = (INDEX, f"{INDEX}-wal", f"{INDEX}-shm")


class Disk:
    """``record`` is what ``otherboot`` writes; ``attic`` a directory on the same file system."""

    def __init__(self, data: Path, record: Path, attic: Path) -> None:
        self.data = data
        self.record = record
        self.attic = attic
        self.files: dict[int, tuple[int, int]] = {}
        """By inode: the size that is durable, and the mtime at that moment."""
        self.names: set[tuple[str, int]] = set()
        self.by_inode: defaultdict[int, set[str]] = defaultdict(set)

    def all_is_durable(self) -> None:
        """What is there now is on the disk. Copies are kept of what may be deleted and come back."""
        self.record.write_bytes(b"")
        self.files.clear()
        self.names.clear()
        self.by_inode.clear()
        shutil.rmtree(self.attic, ignore_errors=True)
        self.attic.mkdir()
        for path, state in self._present():
            self._file(state.st_ino, state.st_size, state.st_mtime_ns)
            self._name(state.st_ino, path)
            if path.startswith((f"{self.data}/mail/", f"{self.data}/queue/messages/")):
                if os.path.basename(path) in INDEX_FILES:
                    shutil.copy2(path, self._kept(path))
                else:
                    with contextlib.suppress(FileNotFoundError):  # it has left the queue by now
                        os.link(path, self._kept(path))

    def cut(self, rng: random.Random, *, with_queue: bool = False) -> None:
        """The power is off: what comes up again is not all that was there.

        ``with_queue``: messages that left the queue in this boot may come back too, as no checkpoint was made.
        """
        self._read_record()
        for path, state in self._present():
            name = os.path.basename(path)
            if name in INDEX_FILES:
                continue
            if name == UIDLIST:
                self._tear(rng, path, state, self.files.get(state.st_ino, (0, 0))[0])
            elif self.files.get(state.st_ino) != (state.st_size, state.st_mtime_ns):
                self._tear(rng, path, state, 0)
            if (path, state.st_ino) not in self.names:
                self._lose_name(rng, path, state.st_ino)
        for path, _ in sorted(self.names):
            kept = self._kept(path)
            if not with_queue and path.startswith(f"{self.data}/queue/"):
                continue
            was_deleted = kept.exists() and not find_message(path) and os.path.basename(path) not in INDEX_FILES
            if was_deleted and rng.random() < 0.5:  # its unlink never reached the disk
                os.link(kept, path)
        for index in sorted(self.data.glob(f"mail/*/*/{INDEX}")):
            self._tear_index(rng, index)

    def _tear(self, rng: random.Random, path: str, state: os.stat_result, durable: int) -> None:
        """Leaves the durable octets and any part of the rest."""
        if state.st_size <= durable:
            return
        end = rng.choice([durable, rng.randrange(durable, state.st_size), state.st_size, state.st_size])
        os.truncate(path, end)
        if rng.random() < 0.3:  # blocks that were allocated but not written
            os.truncate(path, rng.randint(end, state.st_size))

    def _lose_name(self, rng: random.Random, path: str, inode: int) -> None:
        base = os.path.basename(path).partition(":")[0]
        before = [
            old
            for old in sorted(self.by_inode[inode])
            if os.path.basename(old).partition(":")[0] == base and not os.path.lexists(old)
        ]
        if before and rng.random() < 0.5:
            os.rename(path, before[0])
        elif not before and rng.random() < 0.6:
            os.unlink(path)

    def _tear_index(self, rng: random.Random, index: Path) -> None:
        """SQLite syncs for itself; whatever is between two of its checkpoints may be lost."""
        how = rng.choice(["kept", "write-ahead log torn", "as it was", "lost"])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{index}-shm")
        wal = f"{index}-wal"
        if how == "write-ahead log torn":
            if os.path.exists(wal) and (size := os.path.getsize(wal)):
                os.truncate(wal, rng.randrange(size))
        elif how != "kept":
            for path in (str(index), wal):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                if how == "as it was" and self._kept(path).exists():
                    shutil.copy2(self._kept(path), path)

    def _present(self) -> list[tuple[str, os.stat_result]]:
        found: list[tuple[str, os.stat_result]] = []
        for root in ("mail", "queue"):
            for directory, _, names in os.walk(self.data / root):
                for name in sorted(names):
                    path = os.path.join(directory, name)
                    with contextlib.suppress(FileNotFoundError):
                        state = os.lstat(path)
                        if stat.S_ISREG(state.st_mode):
                            found.append((path, state))
        return sorted(found)

    def _read_record(self) -> None:
        text = self.record.read_bytes().decode("utf-8", "surrogateescape")
        for line in text.splitlines():
            kind, inode, rest = line.split(" ", 2)
            if kind == "file":
                size, mtime, _ = rest.split(" ", 2)
                self._file(int(inode), int(size), int(mtime))
            else:
                self._name(int(inode), rest)

    def _file(self, inode: int, size: int, mtime: int) -> None:
        # A checkpoint is written down after the syncs that were quicker, though it saw the file before them.
        if inode not in self.files or (mtime, size) > self.files[inode][::-1]:
            self.files[inode] = (size, mtime)

    def _name(self, inode: int, path: str) -> None:
        self.names.add((path, inode))
        self.by_inode[inode].add(path)

    def _kept(self, path: str) -> Path:
        return self.attic / path.removeprefix(f"{self.data}/").replace("/", "\\")


def tear_journals(rng: random.Random, data: Path, is_known: "set[str]") -> int:
    """Garbles each journal from a random octet on behind the last record that was put in place, or that holds a
    message of ``is_known``; how many octets of records that cost."""
    lost = 0
    for journal in sorted((data / "journal").iterdir()):
        segments = [opened for path in segment_paths(str(journal)) if (opened := Segment.open(path)) is not None]
        segments = [(segment, records) for segment, records in segments if records or segment.close()]
        segments.sort(key=lambda opened: opened[1][0].stamp)
        for segment, records in segments[-1:]:
            needed = [
                record.offset + record.span
                for record in records
                if any(type(operation) is not Put or find_message(operation.path) for operation in record.operations)
                or any(name.encode() in segment.content(record) for name in is_known)
            ]
            start = rng.randrange(max(needed, default=4096), segment.size)
            lost += max(0, segment.position - start)
            length = min(segment.size - start, rng.choice([1, 100, 4096, 1 << 20]))
            os.pwrite(segment.fd, rng.choice([bytes(length), rng.randbytes(length)]), start)
        for segment, _ in segments:
            segment.close()
    return lost
