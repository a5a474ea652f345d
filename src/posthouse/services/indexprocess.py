"""The process that keeps accounts' search indexes up to date, with the lowest priority, and how it is asked to.

Invariants:
  1. Who asks never waits: a datagram that can't be delivered is lost, and whoever next uses the mailbox asks again.
  2. One account is worked on at a time, and one that is large makes room for others now and then.
  3. What fails for one account ends nothing else.
"""

import contextlib
import os
import select
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from posthouse.base.errors import PosthouseError
from posthouse.config.settings import Settings
from posthouse.runtime.log import log
from posthouse.store import filename, fulltext, indexing
from posthouse.store.accountfiles import is_mailbox, open_account
from posthouse.store.fulltext import Fulltext

PAUSE_SECONDS = 20.0
"""An account that has just been looked at is not looked at again before that."""
BATCHES_AT_A_STRETCH = 100
MOST_WAITING = 100_000
WORTH_TELLING = 1000
_LONGEST_NAME = 4096


class Hints:
    """Asks the process on the Unix socket ``path`` for an index of the account with this ``maildir``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def __call__(self, maildir: str) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(maildir.encode("utf-8", "surrogateescape")[:_LONGEST_NAME], self._path)

    def close(self) -> None:
        self._socket.close()


@dataclass(slots=True)
class IndexProcess:
    """Makes the indexes that it is asked for on the Unix socket ``path`` until SIGTERM."""

    settings: Settings
    path: str
    _waiting: dict[str, float] = field(default_factory=dict[str, float], init=False)
    """When to look at each account that was asked for, in seconds of the monotonic clock."""
    _looked_at: dict[str, float] = field(default_factory=dict[str, float], init=False)
    _stopping: list[int] = field(default_factory=list[int], init=False)

    def run(self, ready: Callable[[], None]) -> None:
        """Raises ``OSError`` when the socket can't be made."""
        with contextlib.suppress(OSError):
            os.nice(19)
        wakeup, wakeup_end = socket.socketpair()
        wakeup_end.setblocking(False)
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda signum, _frame: self._stopping.append(signum))
        with _bound(self.path) as asked, wakeup, wakeup_end:
            ready()
            while not self._stopping:
                now = time.monotonic()
                due = min(self._waiting, key=self._waiting.__getitem__, default=None)
                if due is None or self._waiting[due] > now:
                    seconds = None if due is None else self._waiting[due] - now
                    select.select([asked, wakeup], [], [], seconds)
                    self._hear(asked)
                else:
                    self._look(due, asked)
            signal.set_wakeup_fd(-1)

    def _hear(self, asked: socket.socket) -> None:
        """Takes in what has been asked for."""
        while not self._stopping:
            try:
                maildir = asked.recv(_LONGEST_NAME).decode("utf-8", "surrogateescape")
            except BlockingIOError:
                return
            if maildir not in self._waiting and len(self._waiting) < MOST_WAITING:
                self._waiting[maildir] = self._looked_at.get(maildir, -PAUSE_SECONDS) + PAUSE_SECONDS

    def _look(self, maildir: str, asked: socket.socket) -> None:
        began = time.monotonic()
        del self._waiting[maildir]
        try:
            count, is_done = self._bring_up_to_date(maildir, asked)
        except (OSError, sqlite3.Error, PosthouseError) as error:
            log.warning("search-index-failed", maildir=maildir, reason=str(error))
            count, is_done = 0, True
        except Exception:  # noqa: BLE001 - a bug of ours costs this account its index
            log.exception("search-index-failed", maildir=maildir)
            count, is_done = 0, True
        now = time.monotonic()
        if not is_done:
            self._waiting[maildir] = now
            return
        self._looked_at = {name: at for name, at in self._looked_at.items() if at > now - PAUSE_SECONDS}
        self._looked_at[maildir] = now
        if count >= WORTH_TELLING:
            log.info("search-indexed", maildir=maildir, messages=count, seconds=round(now - began, 1))

    def _bring_up_to_date(self, maildir: str, asked: socket.socket) -> tuple[int, bool]:
        """How many messages were dealt with, and whether that is all."""
        settings = self.settings
        host = filename.host_part(settings.hostname)
        files = open_account(settings.path(settings.mail.root), maildir, host, None)
        index = Fulltext(files.path, by_default=settings.mail.search_index)
        if not (is_mailbox(files.path) and index.is_wanted):
            fulltext.discard(index.path)
            return 0, True
        count = 0
        try:
            for batches, done in enumerate(indexing.bring_up_to_date(files, index), 1):
                count += done
                self._hear(asked)
                if self._stopping or (self._waiting and batches >= BATCHES_AT_A_STRETCH):
                    return count, False
        finally:
            files.index.close()
        return count, True


@contextlib.contextmanager
def _bound(path: str) -> Iterator[socket.socket]:
    """The socket under its name, in one step: who asks meanwhile asks us or our predecessor."""
    temporary = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asked:
        asked.bind(temporary)
        os.chmod(temporary, 0o600)
        os.rename(temporary, path)
        yield asked
