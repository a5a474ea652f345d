"""``posthouse serve`` as it would run in another boot of the machine, telling what it makes durable.

    python otherboot.py BOOT_ID_FILE CHECKPOINT_SECONDS RECORD serve --config FILE

Every fsync and fdatasync that returned, and every checkpoint, adds lines to RECORD:

    file <inode> <size> <mtime in ns> <path>
    name <inode> <path>                         an entry of a directory that was synced
"""

import functools
import os
import stat
import sys
from collections.abc import Iterable
from typing import Any


class Record:
    """What is durable, as far as this process brought it about. The journal has rules of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fsync = os.fsync
        self._fdatasync = os.fdatasync

    def fsync(self, fd: int) -> None:
        lines = list(state_of(fd))
        self._fsync(fd)
        self._add(lines)

    def fdatasync(self, fd: int) -> None:
        lines = list(state_of(fd))
        self._fdatasync(fd)
        self._add(lines)

    def checkpoint(self, sync: Any, directories: Iterable[str]) -> None:
        """``sync_file_systems``; what is there before it is durable after it."""
        directories = set(directories)
        # Twice: a file that a reader moves meanwhile from a directory yet to be read into one that was is missed.
        lines = [line for _ in range(2) for directory in directories for line in everything_in(directory)]
        sync(directories)
        self._add(lines)

    def _add(self, lines: list[str]) -> None:
        if not lines:
            return
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, "".join(lines).encode("utf-8", "surrogateescape"))
        finally:
            os.close(handle)


def state_of(fd: int) -> Iterable[str]:
    path = os.readlink(f"/proc/self/fd/{fd}")
    state = os.fstat(fd)
    if stat.S_ISDIR(state.st_mode):
        yield from names_in(path)
    elif "/journal/" not in path:
        yield file_line(path, state)


def names_in(directory: str) -> Iterable[str]:
    for entry in os.scandir(directory):
        yield f"name {entry.inode()} {entry.path}\n"


def everything_in(directory: str) -> Iterable[str]:
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            state = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield f"name {entry.inode()} {entry.path}\n"
        if stat.S_ISREG(state.st_mode):
            yield file_line(entry.path, state)


def file_line(path: str, state: os.stat_result) -> str:
    return f"file {state.st_ino} {state.st_size} {state.st_mtime_ns} {path}\n"


def main() -> None:
    boot_id_path, checkpoint_seconds, record_path = sys.argv[1:4]
    from posthouse.app import parts
    from posthouse.cli.main import main as posthouse
    from posthouse.journal import checkpoint, recovery
    from posthouse.services import preparation

    record = Record(record_path)
    os.fsync = record.fsync
    os.fdatasync = record.fdatasync
    sync = functools.partial(record.checkpoint, checkpoint.sync_file_systems)
    checkpoint.sync_file_systems = recovery.sync_file_systems = sync
    parts.Journal = functools.partial(
        parts.Journal, checkpoint_seconds=float(checkpoint_seconds), boot_id_path=boot_id_path
    )
    preparation.recover = functools.partial(preparation.recover, boot_id_path=boot_id_path)
    sys.argv[1:4] = []
    posthouse()


if __name__ == "__main__":
    main()
