"""What all sessions of one account share in one process: its paths, its index, its keyword letters."""

import os
import sqlite3
import stat
from collections.abc import Callable
from typing import TypeVar

from posthouse.journal.journal import Journal
from posthouse.store.errors import NoSuchMailbox
from posthouse.store.index import Index
from posthouse.store.keywords import Keywords
from posthouse.store.layout import INBOX, Folder, canonical_name, find_folder, make_folder

T = TypeVar("T")


class AccountFiles:
    """Everything here may block: it runs in store threads. Without a journal nothing can be appended."""

    __slots__ = ("__weakref__", "_keywords", "host", "index", "journal", "path", "undelete_days")

    def __init__(self, path: str, host: str, journal: Journal | None, undelete_days: int = 0) -> None:
        self.path = path
        self.host = host
        self.journal = journal
        self.undelete_days = undelete_days
        self.index = Index(path)
        self._keywords: dict[str, Keywords] = {}

    def folder(self, name: str) -> Folder:
        """Where the mailbox is, or would be. Raises BadMailboxName."""
        return find_folder(self.path, canonical_name(name))

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

    def forget_keywords(self) -> None:
        """After mailboxes were deleted or renamed."""
        self._keywords.clear()

    def attempt(self, work: Callable[[], T]) -> T:
        """Does something in the account, which is made if need be; again if the index turns out to be damaged."""
        if not is_mailbox(self.path):
            make_folder(Folder(self.path, ""))
        try:
            return work()
        except (sqlite3.Error, TypeError, ValueError) as error:
            if not self.index.discard_if_damaged(error):
                raise
            return work()


def is_mailbox(path: str) -> bool:
    """Whether there is a Maildir; a symbolic link is none, wherever it leads."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode) and stat.S_ISDIR(os.lstat(f"{path}/cur").st_mode)
    except OSError:
        return False


def is_inbox(name: str) -> bool:
    return name.upper() == INBOX
