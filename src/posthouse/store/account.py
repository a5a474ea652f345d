"""One account's mailboxes, for one session."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from posthouse.base.errors import TryLater
from posthouse.runtime.watch import Subscription
from posthouse.store import accesskeys, acl, changes, folders, looking, metadata, quota, shares
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.acl import Access, Entries
from posthouse.store.layout import canonical_name
from posthouse.store.maildroplock import MaildropLock
from posthouse.store.model import Appended, MailboxInfo, NewMessage, Quota, Status
from posthouse.store.quota import Limit
from posthouse.store.sharedview import SharedView
from posthouse.store.shares import Shares
from posthouse.store.threads import Threads
from posthouse.store.view import View

T = TypeVar("T")


class AccountStore:
    """Made by ``Store.account``. Everything raises TryLater when disk or database fail."""

    __slots__ = ("_files", "_limit", "_threads")

    def __init__(self, threads: Threads, files: AccountFiles, limit: Limit | None) -> None:
        self._threads = threads
        self._files = files
        self._limit = limit

    async def mailboxes(self) -> list[MailboxInfo]:
        """All of them, parents that are none and subscriptions to none too; INBOX first."""
        return await self._run(folders.mailboxes)

    async def create(self, name: str, special_use: str = "") -> str:
        """Returns what it is known by whatever its name. Raises MailboxExists, BadMailboxName."""
        return await self._run(folders.create, name, special_use)

    async def delete(self, name: str) -> None:
        """With its messages, not its children. Raises NoSuchMailbox, BadMailboxName."""
        await self._run(folders.delete, name)

    async def rename(self, old: str, new: str) -> None:
        """With its children. Raises NoSuchMailbox, MailboxExists, BadMailboxName."""
        await self._run(folders.rename, old, new)

    async def subscribe(self, name: str) -> None:
        """The mailbox need not exist (RFC 3501 §6.3.6). Raises BadMailboxName."""
        await self._run(folders.subscribe, name)

    async def unsubscribe(self, name: str) -> None:
        """Raises BadMailboxName."""
        await self._run(folders.unsubscribe, name)

    async def status(self, name: str) -> Status:
        """Without changing anything, ``\\Recent`` included. Raises NoSuchMailbox."""
        return await self._run(looking.status, name)

    async def select(self, name: str, *, read_only: bool = False, access: Access | None = None) -> View:
        """``access`` limits what may be done. Raises NoSuchMailbox."""
        folder = await self._run(AccountFiles.existing, name)
        name = canonical_name(name)
        if access is None:
            view = View(self._threads, self._files, folder, name, self._limit, read_only=read_only)
        else:
            view = SharedView(self._threads, self._files, folder, name, self._limit, access, read_only=read_only)
        await view.open()
        return view

    async def append(self, name: str, messages: Sequence[NewMessage]) -> Appended:
        """New messages, all or none, durable with their UIDs when this returns. Raises NoSuchMailbox, OverQuota."""

        def work(files: AccountFiles) -> Appended:
            return changes.append(files, files.existing(name), messages, self._limit)

        return await self._run(work)

    async def discard(self, name: str, uids: Sequence[int]) -> None:
        """Takes back what was appended."""
        await self._run(lambda files: changes.discard(files, files.existing(name), uids))

    def holds(self, view: View) -> bool:
        """Whether that mailbox is one of this account."""
        return view.is_of(self._files)

    async def access_key(self, name: str) -> bytes | None:
        """What authorises URLs of this mailbox (RFC 4467). Raises NoSuchMailbox, BadMailboxName."""
        return await self._run(accesskeys.read, name)

    async def make_access_key(self, name: str) -> bytes:
        """The same, made if need be."""
        return await self._run(accesskeys.made, name)

    async def reset_access_keys(self, name: str = "") -> None:
        """A new key for the mailbox; where none is named, none for all of them. Raises NoSuchMailbox."""
        await self._run(accesskeys.reset, name)

    async def identities(self) -> dict[str, str]:
        """What tells each mailbox from others that had or get its name."""
        return await self._run(folders.identities)

    async def watch_messages(self, name: str, callback: Callable[[], None]) -> list[Subscription]:
        """Calls back, on the loop, when messages change. Raises NoSuchMailbox, OSError."""
        path = (await self._run(AccountFiles.existing, name)).path
        return self._watched([f"{path}/new", f"{path}/cur"], callback)

    async def watch_directory(
        self, name: str, callback: Callable[[], None], only: Callable[[str], bool]
    ) -> list[Subscription]:
        """The same for files beside a mailbox, or the account where ``name`` is empty, that ``only`` says yes to."""
        path = (await self._run(AccountFiles.existing, name or "INBOX")).path
        return self._watched([path], callback, only)

    def _watched(
        self, directories: Sequence[str], callback: Callable[[], None], only: Callable[[str], bool] | None = None
    ) -> list[Subscription]:
        watch = self._threads.watch
        return [watch.subscribe(each, callback, only=only) for each in directories] if watch else []

    # Rights, and what is shared.

    async def access(self, name: str, login: str, owner: str) -> Access:
        """What a login may do in one of these mailboxes of ``owner``. Raises NoSuchMailbox, BadMailboxName."""
        return Access(await self._run(AccountFiles.existing, name), login, owner)

    async def acl(self, name: str) -> Entries:
        """Raises NoSuchMailbox."""
        return await self._run(lambda files: acl.read(files.existing(name)))

    async def change_acl(
        self, shared: Shares, owner: str, name: str, identifier: str, mode: str, changed: frozenset[str]
    ) -> None:
        """``add``, ``remove`` or ``replace`` the rights of one identifier. Raises NoSuchMailbox."""

        def work(files: AccountFiles) -> None:
            acl.change(files.existing(name), identifier, mode, changed)
            shared.note(files, owner, {acl.written(identifier)})

        await self._run(work)

    async def note_shares(self, shared: Shares, owner: str) -> None:
        """Says to whom this account of ``owner`` gives rights."""
        await self._run(lambda files: shared.note(files, owner))

    async def owners(self, shared: Shares, login: str) -> list[str]:
        """Who may have given ``login`` rights."""
        return await self._run(lambda _: shared.owners(login))

    async def visible(self, login: str, owner: str) -> list[str]:
        """The mailboxes of this account of ``owner`` that a login may look up."""
        return await self._run(shares.visible, login, owner)

    async def shared_subscriptions(self) -> list[str]:
        """Subscribed names of others' mailboxes."""
        return await self._run(folders.shared_subscriptions)

    async def quota(self) -> Quota | None:
        """None where there is no limit."""
        return await self._run(_quota, self._limit)

    async def metadata(self, name: str, user: str = "") -> dict[str, bytes]:
        """The annotations of a mailbox, or of the account where ``name`` is empty: the shared and the user's own.

        ``user`` is empty for who owns the account. Raises NoSuchMailbox.
        """
        return await self._run(metadata.read, name, user)

    async def set_metadata(self, name: str, values: Sequence[tuple[str, bytes | None]], user: str = "") -> None:
        """All or none; None takes away. Raises NoSuchMailbox, TooLongMetadata, TooMuchMetadata."""
        await self._run(metadata.change, name, user, values)

    async def lock_maildrop(self, delay_seconds: int = 0) -> MaildropLock:
        """The maildrop for one POP3 session, until ``close()``. Raises InUse, TooSoon."""
        return await self._run(lambda files: MaildropLock(files.path, delay_seconds))

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await self._threads.run(self._files, work, self._files, *arguments)
        except FileNotFoundError as error:
            raise TryLater(f"mail store: {error}") from error


def _quota(files: AccountFiles, limit: Limit | None) -> Quota | None:
    if limit is None:
        return None
    quota.room(files.path, limit)  # counts where nobody has
    octets, messages = quota.used(files.path, limit) or (0, 0)
    return Quota(limit.size_bytes, limit.messages, max(0, octets), max(0, messages))
