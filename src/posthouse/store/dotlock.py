"""Lock files as Dovecot has them: ``FILE.lock`` exists while somebody changes ``FILE``.

Ours are flocked besides, so that the lock of a dead process is known at once, also where process ids are used
again; anybody else's is broken when it has not been touched for ``STALE_SECONDS``, as Dovecot does.

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
_OURS = b"posthouse "


class Dotlock:
    """``with Dotlock(path):``. Raises TryLater after ``timeout_seconds``."""

    __slots__ = ("_handle", "_path", "_timeout_seconds")

    def __init__(self, path: str, timeout_seconds: float = 30.0) -> None:
        self._path = f"{path}.lock"
        self._timeout_seconds = timeout_seconds
        self._handle = -1

    def __enter__(self) -> Self:
        pause = 0.001
        gives_up = time.monotonic() + self._timeout_seconds
        while not self._take():
            if _break_if_stale(self._path):
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
            os.write(self._handle, _OURS + str(os.getpid()).encode())  # said once it is flocked
        except OSError:  # a full disk; as long as we live nobody else would break the lock
            os.unlink(self._path)
            os.close(self._handle)
            raise
        return True


def _break_if_stale(path: str) -> bool:
    """Whether it is worth trying again at once."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        state = os.fstat(handle)
        is_old = time.time() - state.st_mtime > STALE_SECONDS
        if not is_old and os.read(handle, len(_OURS)) != _OURS:
            return False
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        named = os.stat(path)
        if (named.st_dev, named.st_ino) == (state.st_dev, state.st_ino):
            os.unlink(path)
        return True
    except BlockingIOError:
        return False  # its owner lives
    except FileNotFoundError:
        return True
    finally:
        os.close(handle)
