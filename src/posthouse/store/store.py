"""The mail store of one process: names deliveries, opens accounts.

Invariant: nothing outside the mail root is ever touched, whatever ``maildir`` says.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from posthouse.base.errors import TryLater
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal, Put
from posthouse.runtime.watch import Watch
from posthouse.store import filename
from posthouse.store.account import AccountStore
from posthouse.store.accountfiles import AccountFiles, open_account
from posthouse.store.delivery import form_of
from posthouse.store.fulltext import Fulltext
from posthouse.store.layout import INBOX, Folder, account_path, canonical_name, find_folder, make_folder
from posthouse.store.mbox import size_bytes
from posthouse.store.quota import add, parse, room
from posthouse.store.shares import Shares
from posthouse.store.threads import Threads

T = TypeVar("T")

OPEN_INDEXES = 64
KNOWN_MAILDIRS = 10_000


class Store:
    """``hostname`` goes into file names; ``threads`` bounds what runs at once.

    ``undelete_days``: expunged messages are kept aside for so long. ``search_index``: whether accounts that don't
    say themselves have a search index; ``ask_index`` asks for that of the account with this ``maildir``.
    """

    def __init__(
        self,
        mail_root: str,
        journal: Journal,
        watch: Watch | None,
        *,
        threads: int = 4,
        hostname: str,
        undelete_days: int = 0,
        search_index: bool = False,
        ask_index: Callable[[str], None] | None = None,
    ) -> None:
        self._root = os.path.realpath(mail_root)
        self._journal = journal
        self._host = filename.host_part(hostname)
        self._undelete_days = undelete_days
        self._search_index = search_index
        self._ask_index = ask_index
        self._threads = Threads(threads, watch)
        self.shares = Shares(self._root)
        self._known: dict[tuple[str, str], tuple[str, str]] = {}  # maildir, folder: account's path, folder's
        self._accounts: WeakValueDictionary[str, AccountFiles] = WeakValueDictionary()
        self._used: OrderedDict[str, AccountFiles] = OrderedDict()  # the latest, whose indexes stay open

    async def plan_delivery(self, maildir: str, content: Content, prefix: bytes, *, folder: str = "INBOX") -> Put:
        """Names the file that a message becomes; makes the Maildir if need be.

        ``prefix``, with CRLF, goes in front. The account's quota counts the message from now on. Raises
        TryLater, BadMailboxName. After an OSError of the journal, ``forget`` and plan once more: the directory
        may have been removed.
        """
        place = self._known.get((maildir, folder))
        if place is None:
            place = await self._call(self._prepare, maildir, folder)
        if content.in_memory:
            form = form_of(content, prefix, self._host)
        else:
            form = await self._call(form_of, content, prefix, self._host)
        account, path = place
        add(account, form.stored, 1)
        return form.put(path, "new")

    def forget(self, maildir: str) -> None:
        """Looks again at the next delivery whether the Maildir is there."""
        for key in [key for key in self._known if key[0] == maildir]:
            del self._known[key]

    def account(self, maildir: str, *, quota: str = "") -> AccountStore:
        """Raises TryLater where ``maildir`` is not below the mail root."""
        files = self._accounts.get(maildir)
        if files is None:
            files = open_account(self._root, maildir, self._host, self._journal, self._undelete_days)
            files.fulltext = self._fulltext(files.path, maildir)
            self._accounts[maildir] = files
        self._used[maildir] = files
        self._used.move_to_end(maildir)
        if len(self._used) > OPEN_INDEXES:
            self._close_oldest()
        return AccountStore(self._threads, files, parse(quota))

    async def quota_room(self, maildir: str, quota: str) -> int | None:
        """Octets left, 0 where the account is full, None without a limit."""
        limit = parse(quota)
        if limit is None:
            return None
        if not maildir.endswith("/"):
            used = await self._call(size_bytes, account_path(self._root, f"{maildir}/"))
            return max(0, limit.size_bytes - used) if limit.size_bytes else None
        account, _ = self._known.get((maildir, INBOX)) or await self._call(self._prepare, maildir, INBOX)
        return await self._call(room, account, limit)

    def close(self) -> None:
        """After the last session."""
        self._threads.close()
        for files in self._accounts.values():
            files.index.close()

    async def _call(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await self._threads.call(work, *arguments)
        except FileNotFoundError as error:
            raise TryLater(f"mail store: {error}") from error

    def _fulltext(self, path: str, maildir: str) -> Fulltext | None:
        if self._ask_index is None:
            return None
        return Fulltext(path, by_default=self._search_index, ask=partial(self._ask_index, maildir))

    def _prepare(self, maildir: str, folder: str) -> tuple[str, str]:
        account = account_path(self._root, maildir)
        make_folder(Folder(account, ""))
        found = find_folder(account, canonical_name(folder))
        if found.name:
            make_folder(found)
        if len(self._known) >= KNOWN_MAILDIRS:
            self._known.clear()
        self._known[maildir, folder] = (account, found.path)
        return account, found.path

    def _close_oldest(self) -> None:
        _, oldest = self._used.popitem(last=False)
        if oldest.index.lock.acquire(blocking=False):  # else it is being used this moment
            try:
                oldest.index.close()
            finally:
                oldest.index.lock.release()
