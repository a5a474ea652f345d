"""Putting the operations of one commit in their place, all or none.

Invariants:
  1. A file appears under its final names only when it is whole.
  2. When anything fails, what this commit made is taken away again and the error goes to the caller.
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence

from posthouse.journal.operations import Append, Gone, Operation, Put

Body = Callable[[bool], Iterable[bytes]]
"""The content in blocks; the argument says whether CRLF becomes LF."""

NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP})
"""What link(2) says of two file systems, of a file with too many names, and where there are no hard links."""


def body_of(data: bytes) -> Body:
    """The body of content that is in memory."""
    return lambda lf: (data.replace(b"\r\n", b"\n") if lf else data,)


def place(operations: Sequence[Operation], body: Body, *, synced: bool = False) -> None:
    """Writes, appends and renames; with ``synced``, files and directories are on disk when it returns.

    Raises OSError with nothing of this commit left.
    """
    made: list[str] = []
    appended: list[tuple[str, int, int]] = []
    try:
        for operation in operations:
            if type(operation) is Put:
                write_file(operation, body, synced=synced)
                made.append(operation.temporary)
        for operation in operations:
            if type(operation) is Append:
                appended.append(_append(operation, synced=synced))  # noqa: PERF401 (_undo needs those before a failure)
        for operation in operations:
            if type(operation) is Put:
                _publish(operation, made)
        if synced:
            _sync_directories(operations)
    except BaseException:
        _undo(operations, made, appended)
        raise


def write_file(put: Put, body: Body, *, synced: bool) -> None:
    """The whole file under its temporary name, or none."""
    fd = os.open(put.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, put.mode)
    try:
        try:
            start = [put.prefix] if put.prefix else []
            for block in body(put.lf):
                write_all(fd, [*start, block])
                start = []
            if put.mtime is not None:
                os.utime(fd, (put.mtime, put.mtime))
            if synced:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        os.unlink(put.temporary)
        raise


def write_all(fd: int, buffers: list[bytes]) -> None:
    """Every octet, or OSError."""
    written = os.writev(fd, buffers)
    if written == sum(map(len, buffers)):
        return
    # Short: the disk just became full, most likely; the next write says what it is.
    rest = memoryview(b"".join(buffers))[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _append(append: Append, *, synced: bool) -> tuple[str, int, int]:
    """Adds the line; returns path, size before and size after."""
    fd = os.open(append.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(fd).st_size
        try:
            write_all(fd, [append.line])
            if synced:
                os.fsync(fd)
        except OSError:
            os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)
    return append.path, before, before + len(append.line)


def _publish(put: Put, made: list[str]) -> None:
    # Links first: a reader may move the first name away as soon as it is there.
    for link in put.links:
        os.link(put.temporary, link)
        made.append(link)
    os.rename(put.temporary, put.path)
    made.append(put.path)


def _sync_directories(operations: Sequence[Operation]) -> None:
    names: set[str] = set()
    for operation in operations:
        if type(operation) is Put:
            names.update((operation.path, *operation.links))
        elif type(operation) is Append:
            names.add(operation.path)
    for directory in {os.path.dirname(name) for name in names}:
        sync_directory(directory)


def _undo(operations: Sequence[Operation], made: list[str], appended: list[tuple[str, int, int]]) -> None:
    # A file that replaced another stays: the old one is lost to it, and half of two is worse than either.
    replaced = {operation.path for operation in operations if type(operation) is Gone}
    for path in made:
        if path not in replaced:
            try:
                os.unlink(path)
            except OSError:
                pass  # a temporary name that was renamed, or a message that its reader has already moved
    for path, before, after in appended:
        try:
            # Only our own lines are taken back: not when someone else's follow them.
            if os.path.getsize(path) == after:
                os.truncate(path, before)
        except OSError:
            pass
