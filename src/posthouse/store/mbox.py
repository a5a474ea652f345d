"""Messages at the end of an mbox file, and of plain Maildirs that are no account's.

Invariants:
  1. A message is there whole and on disk when ``append`` and ``drop`` return; when they raise, it is not.
  2. Nobody else who locks as Unix programs do (fcntl and ``FILE.lock``) reads or writes meanwhile.
  3. No symbolic link, no file with a second name and nothing but a regular file is written to.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from posthouse.base.errors import TryLater
from posthouse.store import filename
from posthouse.store.dotlock import Dotlock
from posthouse.store.layout import Folder, make_folder, sync_directory

LOCK_SECONDS = 30.0
_STALE_SECONDS = 300.0  # of what other programs left, liblockfile's
_BLOCK_BYTES = 1024 * 1024
_NO_DOTLOCK = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def append(path: str, chunks: Iterable[bytes], *, lock_seconds: float = LOCK_SECONDS) -> None:
    """Put a message that begins with its ``From `` line, with LF and quoted, at the end of a file.

    Raises ``OSError``, and ``TryLater`` where the file is locked for longer than ``lock_seconds`` or is none to be
    written to. What had been written by then is cut off again.
    """
    with locked(path, lock_seconds) as file:
        _write(file.fileno(), chunks)


@contextlib.contextmanager
def locked(path: str, lock_seconds: float = LOCK_SECONDS) -> Iterator[BinaryIO]:
    """The file, which is made if need be, while nobody else has it. Raises ``OSError``, ``TryLater``.

    Of the two locks none is held while the other is waited for: some programs take them in the other order.
    """
    gives_up = time.monotonic() + lock_seconds
    while True:
        with _dotlock(path, max(0.0, gives_up - time.monotonic())), _opened(path) as file:
            if _lock(path, file.fileno()):
                yield file
                return
        if time.monotonic() > gives_up:
            raise TryLater(f"{path} is locked by another program")
        time.sleep(0.05)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    is_new = not os.path.lexists(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "rb") as file:
        _check(path, file.fileno())
        if is_new:
            sync_directory(os.path.dirname(path))
        yield file


def extend(file: BinaryIO, segments: Iterable[bytes]) -> os.stat_result:
    """Put segments, of ``mboxformat``, at the end of a ``locked`` file, all or none; its state afterwards."""
    _write(file.fileno(), _without_last_line(segments))
    return os.fstat(file.fileno())


def _without_last_line(segments: Iterable[bytes]) -> Iterator[bytes]:
    """The blank line at the end is written by whoever writes the end."""
    held = b""
    for segment in segments:
        yield held
        held = segment
    yield held[:-1]


def rewrite(file: BinaryIO, temporary: str, chunks: Iterable[bytes]) -> os.stat_result:
    """Make this the content of a ``locked`` file, of which ``chunks`` may be parts; its state afterwards.

    In its place: a program that has the file open and waits for its lock would write to one that is gone. A crash
    may leave it half done.
    """
    handle = file.fileno()
    before = os.fstat(handle).st_size
    with open(
        os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b"
    ) as new:
        os.unlink(temporary)
        new.writelines(chunks)
        size = new.tell()
        try:
            if size > before:
                os.posix_fallocate(handle, before, size - before)  # a full disk is known before anything is changed
        except OSError:
            os.ftruncate(handle, before)
            raise
        new.seek(0)
        at = 0
        while block := new.read(_BLOCK_BYTES):
            if os.pread(handle, len(block), at) != block:
                os.lseek(handle, at, os.SEEK_SET)
                _write_all(handle, block)
            at += len(block)
        os.ftruncate(handle, size)
        os.fsync(handle)
    return os.fstat(handle)


def size_bytes(path: str) -> int:
    """The size of an mbox file; 0 where there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def drop(path: str, chunks: Iterable[bytes], host: str) -> None:
    """Put a message with LF into a Maildir, which is made if need be. Raises ``OSError``."""
    path = path.rstrip("/")
    make_folder(Folder(path, ""))
    base = filename.unique_base(filename.host_part(host), time.time_ns())
    temporary, final = f"{path}/tmp/{base}", f"{path}/new/{base}"  # noqa: S108 (a Maildir's own)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, final)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(f"{path}/new")


@contextlib.contextmanager
def _dotlock(path: str, seconds: float) -> Iterator[None]:
    """With ``path.lock``, but where the directory is not ours to write in: as in /var/mail."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Dotlock(path, seconds, stale_seconds=_STALE_SECONDS))
        except OSError as error:
            if error.errno not in _NO_DOTLOCK:
                raise
        yield


def _check(path: str, handle: int) -> None:
    state = os.fstat(handle)
    if not stat.S_ISREG(state.st_mode):
        raise TryLater(f"{path} is not a regular file")
    if state.st_nlink != 1:
        raise TryLater(f"{path} has {state.st_nlink} names: a message could end up in somebody else's file")


def _lock(path: str, handle: int) -> bool:
    """Whether it is ours now, and still the file of that name."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False


def _write(handle: int, chunks: Iterable[bytes]) -> None:
    before = os.fstat(handle).st_size
    os.lseek(handle, 0, os.SEEK_END)
    try:
        # What a crash has left without its end does not swallow this one.
        end = os.pread(handle, 2, max(0, before - 2))
        last = b"" if not before or end.endswith(b"\n\n") else b"\n" if end.endswith(b"\n") else b"\n\n"
        _write_all(handle, last)
        for chunk in chunks:
            if chunk:
                _write_all(handle, chunk)
                last = chunk
        _write_all(handle, b"\n" if last.endswith(b"\n") else b"\n\n")
        os.fsync(handle)
    except BaseException:
        os.ftruncate(handle, before)
        os.fsync(handle)
        raise


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
