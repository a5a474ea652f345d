"""What all sessions of one account share in one process: its paths, its index, its keyword letters."""

import os
import sqlite3
import stat
from collections.abc import Callable
from typing import TypeVar

from posthouse.base.errors import TryLater
from posthouse.journal.journal import Journal
from posthouse.store import mirror
from posthouse.store.errors import NoSuchMailbox
from posthouse.store.fulltext import Fulltext
from posthouse.store.index import Index
from posthouse.store.keywords import Keywords
from posthouse.store.layout import (
    INBOX,
    MIRROR_SUFFIX,
    Folder,
    account_path,
    canonical_name,
    find_folder,
    make_folder,
)

T = TypeVar("T")


class AccountFiles:
    """Everything here may block: it runs in store threads. Without a journal nothing can be appended.

    ``mbox`` is the file that INBOX shows, if any. ``fulltext`` is where searches look first, if anywhere.
    """

    __slots__ = ("__weakref__", "_keywords", "fulltext", "host", "index", "journal", "mbox", "path", "undelete_days")

    def __init__(
        self, path: str, host: str, journal: Journal | None, undelete_days: int = 0, *, mbox: str = ""
    ) -> None:
        self.path = path
        self.mbox = mbox
        self.host = host
        self.journal = journal
        self.undelete_days = undelete_days
        self.fulltext: Fulltext | None = None
        self.index = Index(path)
        self._keywords: dict[str, Keywords] = {}

    def folder(self, name: str) -> Folder:
        """Where the mailbox is, or would be. Raises BadMailboxName."""
        folder = find_folder(self.path, canonical_name(name))
        return folder if folder.name else Folder(folder.path, "", self.mbox)

    def existing(self, name: str) -> Folder:
        """A mailbox that is there. Raises NoSuchMailbox."""
        folder = self.folder(name)
        if not is_mailbox(folder.path):
            raise NoSuchMailbox(name)
        return folder

    def keywords(self, folder: Folder) -> Keywords:
        """The letters of a mailbox, as they are now."""
        found = self._keywords.get(folder.name)
        if found is None:
            found = self._keywords[folder.name] = Keywords(folder.keywords)
        else:
            found.reload()
        return found

    def attempt(self, work: Callable[[], T]) -> T:
        """Does something in the account, which is made if need be; again if the index turns out to be damaged."""
        if not is_mailbox(self.path):
            make_folder(Folder(self.path, ""))
        try:
            return self._mirrored(work)
        except (sqlite3.Error, TypeError, ValueError) as error:
            if not self.index.discard_if_damaged(error):
                raise
            return self._mirrored(work)

    def _mirrored(self, work: Callable[[], T]) -> T:
        """``work``, and what others did before and it has done is in the Maildir and the mbox file."""
        if not self.mbox:
            return work()
        self._exchange()
        done = work()
        self._exchange()
        return done

    def _exchange(self) -> None:
        inbox = self.folder(INBOX)
        try:
            if not mirror.is_same(inbox, self.mbox):
                with self.index.changing():
                    mirror.exchange(inbox, self.mbox, self.keywords(inbox), self.host)
        except FileNotFoundError as error:
            raise TryLater(f"{self.mbox}: {error}") from error


def open_account(
    mail_root: str, maildir: str, host: str, journal: Journal | None, undelete_days: int = 0
) -> AccountFiles:
    """The account with this ``maildir``: an mbox file, shown by a Maildir beside it, where it doesn't end in ``/``.

    Raises TryLater where it is not below the mail root.
    """
    if maildir.endswith("/"):
        return AccountFiles(account_path(mail_root, maildir), host, journal, undelete_days)
    path = account_path(mail_root, f"{maildir}{MIRROR_SUFFIX}/")
    return AccountFiles(path, host, journal, undelete_days, mbox=account_path(mail_root, f"{maildir}/"))


def is_mailbox(path: str) -> bool:
    """Whether there is a Maildir; a symbolic link is none, wherever it leads."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode) and stat.S_ISDIR(os.lstat(f"{path}/cur").st_mode)
    except OSError:
        return False


def is_inbox(name: str) -> bool:
    return name.upper() == INBOX
