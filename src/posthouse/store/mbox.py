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

from posthouse.base.errors import TryLater
from posthouse.store import filename
from posthouse.store.dotlock import Dotlock
from posthouse.store.layout import Folder, make_folder, sync_directory

LOCK_SECONDS = 30.0
_NO_DOTLOCK = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def append(path: str, chunks: Iterable[bytes], *, lock_seconds: float = LOCK_SECONDS) -> None:
    """Put a message that begins with its ``From `` line, with LF and quoted, at the end of a file.

    Raises ``OSError``, and ``TryLater`` where the file is locked for longer than ``lock_seconds`` or is none to be
    written to. What had been written by then is cut off again.
    """
    with _dotlock(path, lock_seconds):
        is_new = not os.path.lexists(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path, flags, 0o600)
        try:
            _check(path, handle)
            _lock(path, handle, lock_seconds)
            _write(handle, chunks)
        finally:
            os.close(handle)
        if is_new:
            sync_directory(os.path.dirname(path))


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
            stack.enter_context(Dotlock(path, seconds))
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


def _lock(path: str, handle: int, seconds: float) -> None:
    gives_up = time.monotonic() + seconds
    while True:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if time.monotonic() > gives_up:
                raise TryLater(f"{path} is locked by another program") from None
            time.sleep(0.05)
        else:
            return


def _write(handle: int, chunks: Iterable[bytes]) -> None:
    before = os.fstat(handle).st_size
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
