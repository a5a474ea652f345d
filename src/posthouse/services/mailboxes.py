"""The mailboxes that a login can reach: its own, and in the name space ``Shared/`` those that others share with it.

``Shared/alice@example.com/Work/2026`` is the mailbox ``Work.2026`` of that account, for whom its ACL gives rights.

Invariants:
  1. Every name goes through ``_place``, and every use of another's mailbox asks for the right that it needs
     (RFC 4314 §4) at that moment.
  2. Who may not look a mailbox up gets the answer of one that isn't there, whether or not there is one, such an
     account, or such a domain.
  3. What lies in an account counts for the quota of that account, whoever put it there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from posthouse.directory.directory import Directory
from posthouse.directory.model import Account
from posthouse.protocols.imap import rights
from posthouse.protocols.imap.wildcards import SHARED, SHARED_SEPARATOR, above, is_shared
from posthouse.runtime.watch import Subscription
from posthouse.services.transfer import transfer
from posthouse.store.account import AccountStore
from posthouse.store.acl import Access, Entries
from posthouse.store.errors import BadMailboxName, MailboxExists, NoPermission, NoSuchMailbox
from posthouse.store.layout import SEPARATOR
from posthouse.store.model import Appended, Copied, MailboxInfo, NewMessage, Quota, Status
from posthouse.store.store import Store
from posthouse.store.view import View

ANNOTATING = frozenset("rswip")
"""RFC 5464 §3.3: any of these, and ``l``."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A mailbox: in which account, under which name there, and what limits its use; None: it is one's own."""

    store: AccountStore
    name: str
    owner: str
    access: Access | None

    @property
    def rights(self) -> frozenset[str]:
        return rights.ALL if self.access is None else self.access.rights()


class Mailboxes:
    """For one session. Everything raises TryLater when disk or database fail."""

    __slots__ = ("_directory", "_login", "_own", "_store", "_temporary_dir")

    def __init__(self, store: Store, directory: Directory, account: Account, temporary_dir: str) -> None:
        self._store = store
        self._directory = directory
        self._login = account.email
        self._own = store.account(account.maildir, quota=account.quota)
        self._temporary_dir = temporary_dir

    async def mailboxes(self) -> list[MailboxInfo]:
        """The own ones first, INBOX before all; then those that are shared, with the levels above them."""
        own = await self._own.mailboxes()
        subscribed = set(await self._own.shared_subscriptions())
        visible: set[str] = set()
        for owner in await self._own.owners(self._store.shares, self._login):
            account = await self._account(owner)
            if account is not None:
                store = self._store.account(account.maildir, quota=account.quota)
                visible.update(_outside(owner, name) for name in await store.visible(self._login, owner))
        levels = {level for name in visible | subscribed for level in above(name)} - {box.name for box in own}
        return own + [
            MailboxInfo(name, "", name in subscribed, name in visible, name in levels)
            for name in sorted(levels | visible | subscribed)
        ]

    async def create(self, name: str, special_use: str = "") -> str:
        """Returns what it is known by whatever its name.

        Raises MailboxExists, BadMailboxName; NoSuchMailbox, NoPermission about the mailbox above.
        """
        if not is_shared(name):
            return await self._own.create(name, special_use)
        place = await self._new(name)
        try:
            mailbox_id = await place.store.create(place.name)
        except MailboxExists:
            raise NoPermission(name, "it is there already") from None
        await place.store.note_shares(self._store.shares, place.owner)
        return mailbox_id

    async def delete(self, name: str) -> None:
        """Raises NoSuchMailbox, NoPermission, BadMailboxName."""
        place = await self._permitted(name, "x")
        await place.store.delete(place.name)

    async def rename(self, old: str, new: str) -> None:
        """Raises NoSuchMailbox, NoPermission, MailboxExists, BadMailboxName."""
        if not is_shared(old) and not is_shared(new):
            await self._own.rename(old, new)
            return
        place = await self._permitted(old, "x")
        target = await self._new(new) if is_shared(new) else None
        if target is None or target.owner != place.owner or place.name == "INBOX":
            raise BadMailboxName(new, "Mailboxes stay in their accounts")
        try:
            await place.store.rename(place.name, target.name)
        except MailboxExists:
            raise NoPermission(new, "it is there already") from None

    async def subscribe(self, name: str) -> None:
        """The mailbox need not exist (RFC 3501 §6.3.6). Raises BadMailboxName."""
        await self._own.subscribe(name)

    async def unsubscribe(self, name: str) -> None:
        """Raises BadMailboxName."""
        await self._own.unsubscribe(name)

    async def status(self, name: str) -> Status:
        """Raises NoSuchMailbox, NoPermission."""
        place = await self._permitted(name, "r")
        return await place.store.status(place.name)

    async def select(self, name: str, *, read_only: bool = False) -> View:
        """Read-only where nothing may be changed (RFC 4314 §5.2). Raises NoSuchMailbox, NoPermission."""
        place = await self._permitted(name, "r")
        may_write = bool(place.rights & rights.WRITING)
        view = await place.store.select(place.name, read_only=read_only or not may_write, access=place.access)
        if place.access is not None:
            view.name = name
        return view

    async def check_append(self, name: str) -> None:
        """Whether something may be put there. Raises NoSuchMailbox, NoPermission."""
        place = await self._permitted(name, "i")
        await place.store.status(place.name)

    async def append(self, name: str, messages: Sequence[NewMessage]) -> Appended:
        """With those flags that may be set. Raises NoSuchMailbox, NoPermission, OverQuota."""
        place = await self._permitted(name, "i")
        if place.access is not None:
            granted = place.rights
            messages = [replace(each, flags=rights.allowed_flags(each.flags, granted)) for each in messages]
        return await place.store.append(place.name, messages)

    async def copy(self, view: View, uids: Sequence[int], name: str, *, move: bool = False) -> Copied:
        """All or nothing, with those flags that may be set. Raises NoSuchMailbox, NoPermission, OverQuota."""
        place = await self._permitted(name, "i")
        if place.store.holds(view) and place.rights >= set("stw"):
            return await (view.move if move else view.copy)(uids, place.name)
        if move and not (view.may("t") and view.may("e")):
            raise NoPermission(view.name, "may not be moved from")
        return await transfer(view, uids, place.store, place.name, place.rights, self._temporary_dir, move=move)

    async def quota(self) -> Quota | None:
        """That of the own account; None where there is no limit."""
        return await self._own.quota()

    async def metadata(self, name: str) -> dict[str, bytes]:
        """The annotations of a mailbox, or of the account where ``name`` is empty. Raises NoSuchMailbox."""
        place = await self._annotated(name)
        return await place.store.metadata(place.name, "" if place.access is None else self._login)

    async def set_metadata(self, name: str, values: Sequence[tuple[str, bytes | None]]) -> None:
        """What all see is for who may write. Raises NoSuchMailbox, TooLongMetadata, TooMuchMetadata."""
        place = await self._annotated(name)
        if any(entry.startswith("/shared/") for entry, _ in values):
            self._require(place, "w", name)
        await place.store.set_metadata(place.name, values, "" if place.access is None else self._login)

    # Watching.

    async def identities(self) -> dict[str, str]:
        """What tells each of the own mailboxes, but for INBOX, from others that had or get its name."""
        return await self._own.identities()

    async def watch_messages(self, name: str, callback: Callable[[], None]) -> list[Subscription]:
        """Raises NoSuchMailbox, NoPermission (RFC 5465 §5: ``l`` and ``r`` are needed), OSError."""
        await self._permitted(name, rights.VISIBLE)
        place = await self._permitted(name, "r")
        return await place.store.watch_messages(place.name, callback)

    async def watch_directory(
        self, name: str, callback: Callable[[], None], only: Callable[[str], bool]
    ) -> list[Subscription]:
        """The own account's where ``name`` is empty. Raises NoSuchMailbox, NoPermission, OSError."""
        place = await self._annotated(name)
        return await place.store.watch_directory(place.name, callback, only)

    # Rights.

    async def my_rights(self, name: str) -> frozenset[str]:
        """Raises NoSuchMailbox, NoPermission where it may not even be asked (RFC 4314 §4)."""
        place = await self._place(name)
        if not place.rights & set("lrikxa"):
            raise NoSuchMailbox(name)
        return place.rights

    async def acl(self, name: str) -> Entries:
        """As the file has it; the owner first. Raises NoSuchMailbox, NoPermission."""
        place = await self._permitted(name, "a")
        entries = await place.store.acl(place.name)
        return {f"user={place.owner}": rights.ALL, **entries}

    async def change_acl(self, name: str, identifier: str, mode: str, changed: frozenset[str]) -> None:
        """Whether there is such an account is not looked up. Raises NoSuchMailbox, NoPermission."""
        place = await self._permitted(name, "a")
        await place.store.change_acl(self._store.shares, place.owner, place.name, identifier, mode, changed)

    async def owner(self, name: str) -> str:
        """Whose mailbox it is, for who may administer it. Raises NoSuchMailbox, NoPermission."""
        return (await self._permitted(name, "a")).owner

    # URLs that others may use (RFC 4467).

    async def access_key(self, name: str) -> bytes:
        """For one of the own mailboxes, made if need be. Raises NoSuchMailbox, BadMailboxName."""
        return await self._own.make_access_key(name)

    async def reset_access_keys(self, name: str) -> None:
        """Of one of the own mailboxes, or all where it is empty. Raises NoSuchMailbox, BadMailboxName."""
        await self._own.reset_access_keys(name)

    async def keyed(self, owner: str, name: str) -> tuple[AccountStore | None, bytes | None]:
        """Somebody's account and the key of one of his mailboxes; what there is not is None.

        Whoever asks has to compare the key before he says anything.
        """
        account = await self._account(owner)
        if account is None or not name:
            return None, None
        store = self._store.account(account.maildir, quota=account.quota)
        try:
            return store, await store.access_key(name)
        except (NoSuchMailbox, BadMailboxName):
            return store, None

    # Names.

    async def _place(self, name: str) -> _Place:
        """Raises NoSuchMailbox where it is another's, and not shared with this login."""
        if not is_shared(name):
            return _Place(self._own, name, self._login, None)
        owner, inside = _inside(name)
        # Those that share nothing are not asked about: whether there is such an account changes nothing.
        if owner not in await self._own.owners(self._store.shares, self._login):
            raise NoSuchMailbox(name)
        account = await self._account(owner)
        if account is None:
            raise NoSuchMailbox(name)
        store = self._store.account(account.maildir, quota=account.quota)
        try:
            access = await store.access(inside, self._login, owner)
        except BadMailboxName:
            raise NoSuchMailbox(name) from None
        return _Place(store, inside, owner, access)

    async def _permitted(self, name: str, needed: str) -> _Place:
        place = await self._place(name)
        self._require(place, needed, name)
        return place

    def _require(self, place: _Place, needed: str, name: str) -> None:
        granted = place.rights
        if needed not in granted:
            raise NoPermission(name, f"needs {needed}") if rights.VISIBLE in granted else NoSuchMailbox(name)

    async def _annotated(self, name: str) -> _Place:
        place = await self._permitted(name, rights.VISIBLE) if name else _Place(self._own, "", self._login, None)
        if not place.rights & ANNOTATING:
            raise NoPermission(name, "needs one of rswip")
        return place

    async def _new(self, name: str) -> _Place:
        """Where a mailbox would be: the nearest one above it that is visible has to let it be made there."""
        for parent in reversed(above(name)[2:]):
            try:
                place = await self._permitted(parent, "k")
            except NoSuchMailbox:
                continue
            _, inside = _inside(name)
            return replace(place, name=inside)
        raise NoSuchMailbox(name)

    async def _account(self, owner: str) -> Account | None:
        """None where nothing is shared from: there is no such account, or it is switched off."""
        account = await self._directory.account(owner)
        return account if account and account.enabled else None


def _inside(name: str) -> tuple[str, str]:
    """The owner, and the mailbox's name in his account."""
    _, _, rest = name.partition(SHARED_SEPARATOR)
    owner, _, path = rest.partition(SHARED_SEPARATOR)
    if not path or SEPARATOR in path:
        raise NoSuchMailbox(name)
    return owner, path.replace(SHARED_SEPARATOR, SEPARATOR)


def _outside(owner: str, name: str) -> str:
    return SHARED_SEPARATOR.join((SHARED, owner, name.replace(SEPARATOR, SHARED_SEPARATOR)))
