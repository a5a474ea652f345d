"""Lock files as Dovecot has them: ``FILE.lock`` exists while somebody changes ``FILE``.

Ours are flocked besides, so that the lock of a dead process is known at once, also where process ids are used
again; anybody else's is broken when it has not been touched for ``STALE_SECONDS``, as Dovecot does. One that is
empty or torn is of a process that died before it had said whose it is, or of before a power cut: it counts as ours
after ``TORN_SECONDS``. Where programs lock with empty files, as they do with mbox files, ``stale_seconds`` is for
both.

Invariant: a lock file is unlinked only by whoever holds the flock of that very file, or found it stale.
"""

import fcntl
import os
import random
import time
from types import TracebackType
from typing import Self

from posthouse.base.errors import TryLater

STALE_SECONDS = 60.0
TORN_SECONDS = 2.0
_OURS = b"posthouse "


class Dotlock:
    """``with Dotlock(path):``. Raises TryLater after ``timeout_seconds``."""

    __slots__ = ("_handle", "_path", "_stale_seconds", "_timeout_seconds", "_torn_seconds")

    def __init__(self, path: str, timeout_seconds: float = 30.0, *, stale_seconds: float | None = None) -> None:
        self._path = f"{path}.lock"
        self._stale_seconds = stale_seconds or STALE_SECONDS
        self._torn_seconds = stale_seconds or TORN_SECONDS
        self._timeout_seconds = timeout_seconds
        self._handle = -1

    def __enter__(self) -> Self:
        pause = 0.001
        gives_up = time.monotonic() + self._timeout_seconds
        while not self._take():
            if self._break_if_stale():
                continue
            if time.monotonic() > gives_up:
                raise TryLater(f"{self._path} is held by another program")
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (spreads the waiting)
            pause = min(pause * 2, 0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # somebody took it for stale; what we did is done
        finally:
            os.close(self._handle)

    def _take(self) -> bool:
        try:
            self._handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            if not _is_named(self._path, os.fstat(self._handle)):  # somebody took it for stale just before
                os.close(self._handle)
                return False
            os.write(self._handle, _OURS + str(os.getpid()).encode())  # said once it is flocked
        except OSError:  # a full disk; as long as we live nobody else would break the lock
            os.unlink(self._path)
            os.close(self._handle)
            raise
        return True

    def _break_if_stale(self) -> bool:
        """Whether it is worth trying again at once."""
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        except PermissionError:  # Postfix's have no rights at all
            return self._break_if_old()
        try:
            state = os.fstat(handle)
            age = time.time() - state.st_mtime
            said = os.read(handle, len(_OURS)).rstrip(b"\0")
            is_torn = said != _OURS and _OURS.startswith(said)
            if said != _OURS and age <= (self._torn_seconds if is_torn else self._stale_seconds):
                return False
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(self._path, state):
                os.unlink(self._path)
            return True
        except BlockingIOError:
            return False  # its owner lives
        except FileNotFoundError:
            return True
        finally:
            os.close(handle)

    def _break_if_old(self) -> bool:
        try:
            if time.time() - os.stat(self._path, follow_symlinks=False).st_mtime <= self._stale_seconds:
                return False
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        return True


def _is_named(path: str, state: os.stat_result) -> bool:
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (state.st_dev, state.st_ino)
