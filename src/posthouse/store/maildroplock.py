"""The exclusive lock that a POP3 session holds on its maildrop (RFC 1939 §4).

It lies on a file of its own, so that IMAP sessions and deliveries go on; the kernel frees it when a process dies.
"""

import fcntl
import os

from posthouse.store.errors import InUse


class MaildropLock:
    """Taken when made, freed by ``close()``. Raises InUse."""

    __slots__ = ("_handle",)

    def __init__(self, account_path: str) -> None:
        path = f"{account_path}/posthouse.pop3.lock"
        self._handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise InUse(account_path) from None

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
