"""The exclusive lock that a POP3 session holds on its maildrop (RFC 1939 §4).

It lies on a file of its own, so that IMAP sessions and deliveries go on; the kernel frees it when a process dies.
Where logins have to be some time apart, the file's mtime says when the last one was, and the file is not empty.
"""

import fcntl
import os
import time

from posthouse.store.errors import InUse, TooSoon


class MaildropLock:
    """Taken when made, freed by ``close()``. Raises InUse; TooSoon where the last was taken less than
    ``delay_seconds`` ago."""

    __slots__ = ("_handle",)

    def __init__(self, account_path: str, delay_seconds: int = 0) -> None:
        path = f"{account_path}/posthouse.pop3.lock"
        self._handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise InUse(account_path) from None
        if delay_seconds:
            self._note_login(account_path, delay_seconds)

    def _note_login(self, account_path: str, delay_seconds: int) -> None:
        before = os.fstat(self._handle)
        # A clock that was set back makes nobody wait for longer than that.
        if before.st_size and 0 <= time.time() - before.st_mtime < delay_seconds:
            self.close()
            raise TooSoon(account_path, delay_seconds)
        os.pwrite(self._handle, b"\n", 0)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
