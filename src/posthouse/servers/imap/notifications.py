"""NOTIFY's promise (RFC 5465): a client is told at once, whatever it does, of the mailboxes that it named.

Directories are watched; what has changed is found by comparing with what was told last. One of many changes wakes the
session after ``GATHER_SECONDS``, in which others join it.

Invariants:
  1. Who may not look a mailbox up and read it hears nothing of it, also when that is taken away (RFC 5465 §5, §5.9).
  2. Of the selected mailbox messages are told as "selected" says, and other events as the other groups say.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.notify import MESSAGE_EVENTS, SELECTED, EventGroup, Notify
from posthouse.protocols.imap.render import Completion, astring, no
from posthouse.protocols.imap.wildcards import above, is_shared, separator_of
from posthouse.runtime.watch import Subscription
from posthouse.store.errors import NoPermission, NoSuchMailbox
from posthouse.store.model import MailboxInfo, Status

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

GATHER_SECONDS: Final = 0.05
MAX_WATCHED: Final = 200
OVERFLOW: Final[Completion] = no("Too many mailboxes to watch", "NOTIFICATIONOVERFLOW")
NONE: Final = frozenset[str]()
WATCHED: Final = MESSAGE_EVENTS | {"MailboxMetadataChange"}
METADATA: Final = "posthouse-metadata"


class Notifications:
    """From one NOTIFY SET to the next NOTIFY."""

    def __init__(self, session: "ImapSession", command: Notify) -> None:
        self._session = session
        self._groups = [group for group in command.groups if group.which not in SELECTED]
        self.selected: EventGroup | None = next((group for group in command.groups if group.which in SELECTED), None)
        self._subscriptions: dict[str, list[Subscription]] = {}  # by mailbox; "" is the account
        self._timer: asyncio.TimerHandle | None = None
        self._changed: set[str] = set()
        self._noted: set[str] = set()
        self._are_names_changed = False
        self._boxes: dict[str, MailboxInfo] = {}
        self._identities: dict[str, str] = {}
        self._events: dict[str, frozenset[str]] = {}
        self._watching: dict[str, frozenset[str]] = {}
        self._status: dict[str, Status] = {}
        self._metadata: dict[str, dict[str, bytes]] = {}

    async def start(self, *, status: bool) -> None:
        """Begin to watch; say where things stand if ``status``. Raises BadCommandError where that is too much."""
        if not self._groups:
            return
        await self._look_at_names()
        try:
            await self._watch_account()
            await self._watch_mailboxes(is_first=True)
        except OSError:  # the system has no watches left
            raise BadCommandError(OVERFLOW) from None
        if "ServerMetadataChange" in NONE.union(*(group.events for group in self._groups)):
            self._metadata[""] = await self._session.mailboxes.metadata("")
        if status:
            for name, known in self._status.items():
                if not self._is_selected(name):
                    items = {"MESSAGES", "UIDNEXT", "UIDVALIDITY"}
                    if "FlagChange" in self._events[name]:
                        items |= {"UNSEEN", "HIGHESTMODSEQ"}
                    self._send_status(name, known, items)

    def close(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.cancel()
        self._subscriptions.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def tell(self) -> None:
        """What has changed since the last time; of the selected mailbox the session tells by itself."""
        if self._are_names_changed:
            self._are_names_changed = False
            before, identities = self._boxes, self._identities
            await self._look_at_names()
            self._tell_names(before, identities)
            self._forget(name for name, identity in identities.items() if self._identities.get(name) != identity)
            try:
                await self._watch_mailboxes(is_first=False)
            except OSError:  # RFC 5465 §5.8: as after NOTIFY NONE
                self._session.engine.untagged(b"OK [NOTIFICATIONOVERFLOW] Too many mailboxes to watch")
                self._session.notify(Notifications(self._session, Notify(b"", ())))
                return
        for name in sorted(_taken(self._changed) & self._status.keys()):
            await self._tell_status(name)
        for name in sorted(_taken(self._noted) & self._metadata.keys()):
            await self._tell_metadata(name)

    # Watching.

    def _wake(self, kind: set[str], name: str) -> None:
        kind.add(name)
        self._gather()

    def _gather(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._session.connection.wake()

    def _names_changed(self) -> None:
        self._are_names_changed = True
        self._gather()

    async def _watch_account(self) -> None:
        watch = self._session.mailboxes.watch_directory
        self._subscriptions[""] = [
            *await watch("", self._names_changed, lambda name: name.startswith(".") or name == "subscriptions"),
            *await watch("", partial(self._wake, self._noted, ""), lambda name: name == f"{METADATA}-account"),
        ]

    async def _watch_mailboxes(self, *, is_first: bool) -> None:
        """Those that are to be watched now, and no others. Raises OSError."""
        wanted = {name: events & WATCHED for name, events in self._events.items() if events & WATCHED}
        self._forget([name for name, events in self._watching.items() if wanted.get(name) != events])
        for name, events in wanted.items():
            if name in self._watching:
                continue
            if len(self._subscriptions) > MAX_WATCHED:
                raise OSError("too many mailboxes to watch")
            self._subscriptions[name], self._watching[name] = [], events
            try:
                await self._watch_mailbox(name, events)
                if not is_first and name in self._status and self._status[name].messages:
                    # They may have come just after the mailbox did.
                    self._send_status(name, self._status[name], {"MESSAGES", "UIDNEXT", "UIDVALIDITY"})
            except NoPermission:
                if is_first:
                    self._send_list(name, ["\\NoAccess"])
            except NoSuchMailbox:
                continue

    async def _watch_mailbox(self, name: str, events: frozenset[str]) -> None:
        mailboxes = self._session.mailboxes
        subscriptions = self._subscriptions[name]
        if events & MESSAGE_EVENTS:
            subscriptions += await mailboxes.watch_messages(name, partial(self._wake, self._changed, name))
            self._status[name] = await mailboxes.status(name)
        if "MailboxMetadataChange" in events:
            noted = partial(self._wake, self._noted, name)
            subscriptions += await mailboxes.watch_directory(name, noted, lambda file: file == METADATA)
            self._metadata[name] = await mailboxes.metadata(name)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            for subscription in self._subscriptions.pop(name, []):
                subscription.cancel()
            for kept in (self._watching, self._status, self._metadata):
                kept.pop(name, None)

    async def _look_at_names(self) -> None:
        mailboxes = self._session.mailboxes
        self._boxes = {box.name: box for box in await mailboxes.mailboxes()}
        self._identities = await mailboxes.identities()
        self._events = {
            name: events for name, box in self._boxes.items() if box.selectable and (events := self._wanted(box))
        }

    def _wanted(self, box: MailboxInfo) -> frozenset[str]:
        """The events that are to be told of a mailbox (RFC 5465 §6)."""
        return NONE.union(*(group.events for group in self._groups if _is_in(box, group)))

    # Telling.

    def _tell_names(self, before: dict[str, MailboxInfo], identities: dict[str, str]) -> None:
        """Mailboxes that came, went or have another name; subscriptions that changed (RFC 5465 §5.4, §5.5)."""
        now = self._boxes
        gone = {name for name in identities if name not in self._identities}
        fresh = {name for name in self._identities if name not in identities}
        by_identity = {identities[name]: name for name in gone}
        renamed = {name: old for name in fresh if (old := by_identity.get(self._identities[name]))}
        other = {name for name in identities if identities[name] != self._identities.get(name)}
        told = {name for name in fresh | other if name not in renamed and name not in renamed.values()}
        told |= {above(name)[-1] for name in told if above(name)}
        for name in sorted(told):
            if "MailboxName" in self._wanted(now.get(name) or before.get(name) or MailboxInfo(name)):
                self._send_list(name, _attributes(now.get(name)))
        for name, old in sorted(renamed.items()):
            is_child = any(level in renamed for level in above(name))
            if not is_child and "MailboxName" in self._wanted(now[name]) | self._wanted(MailboxInfo(old)):
                oldname = b' ("OLDNAME" (%b))' % self._session.mailbox_name(old)
                self._send_list(name, _attributes(now.get(name)), oldname)
        for name in sorted(before.keys() | now.keys()):
            was, box = before.get(name, MailboxInfo(name)), now.get(name, MailboxInfo(name, selectable=False))
            if was.subscribed != box.subscribed and "SubscriptionChange" in self._wanted(box) | self._wanted(was):
                self._send_list(name, _attributes(box))

    async def _tell_status(self, name: str) -> None:
        before = self._status[name]
        try:
            now = self._status[name] = await self._session.mailboxes.status(name)
        except (NoSuchMailbox, NoPermission):
            return
        if self._is_selected(name):
            return
        items = _changed_items(before, now, self._events.get(name, NONE), condstore=self._session.condstore)
        if items:
            self._send_status(name, now, items)

    async def _tell_metadata(self, name: str) -> None:
        """RFC 5465 §5.6, §5.7: names, no values."""
        before = self._metadata[name]
        try:
            now = self._metadata[name] = await self._session.mailboxes.metadata(name)
        except (NoSuchMailbox, NoPermission):
            return
        entries = sorted(entry for entry in before.keys() | now.keys() if before.get(entry) != now.get(entry))
        if entries:
            wire = self._session.mailbox_name(name) if name else b'""'
            names = b" ".join(astring(entry.encode("ascii")) for entry in entries)
            self._session.engine.untagged(b"METADATA %b %b" % (wire, names))

    def _is_selected(self, name: str) -> bool:
        return self._session.view is not None and self._session.view.name == name

    def _send_status(self, name: str, status: Status, items: set[str]) -> None:
        values = {
            "UIDVALIDITY": status.uidvalidity,
            "UIDNEXT": status.uidnext,
            "MESSAGES": status.messages,
            "UNSEEN": status.unseen,
            "HIGHESTMODSEQ": status.modseq,
        }
        said = " ".join(f"{item} {value}" for item, value in values.items() if item in items)
        self._session.engine.untagged(b"STATUS %b (%b)" % (self._session.mailbox_name(name), said.encode()))

    def _send_list(self, name: str, attributes: list[str], extra: bytes = b"") -> None:
        words = (" ".join(attributes).encode(), separator_of(name).encode(), self._session.mailbox_name(name), extra)
        self._session.engine.untagged(b'LIST (%b) "%b" %b%b' % words)


def _changed_items(before: Status, now: Status, events: frozenset[str], *, condstore: bool) -> set[str]:
    """What of a mailbox is news (RFC 5465 §5.1, §5.2, §5.3)."""
    items: set[str] = set()
    if now.uidvalidity != before.uidvalidity:
        items.add("UIDVALIDITY")
    if (now.messages, now.uidnext) != (before.messages, before.uidnext):
        items |= {"MESSAGES", "UIDNEXT", "UIDVALIDITY"}
    if "FlagChange" in events and now.unseen != before.unseen:
        items.add("UNSEEN")
    if condstore and now.modseq != before.modseq and (items or "FlagChange" in events):
        items |= {"HIGHESTMODSEQ", "UIDVALIDITY"}
    return items


def _taken(names: set[str]) -> set[str]:
    taken = set(names)
    names.clear()
    return taken


def _is_in(box: MailboxInfo, group: EventGroup) -> bool:
    if group.which == "subscribed":
        return box.subscribed
    if group.which == "mailboxes":
        return box.name in group.mailboxes
    if group.which == "subtree":
        return any(name in (box.name, *above(box.name)) for name in group.mailboxes)
    return not is_shared(box.name)  # INBOX is not the only one that mail is delivered to: RFC 5465 §6.3


def _attributes(box: MailboxInfo | None) -> list[str]:
    if box is None:
        return ["\\NonExistent"]
    words = ["" if box.selectable else "\\NonExistent", "\\Subscribed" if box.subscribed else ""]
    words += ["\\HasChildren" if box.has_children else "\\HasNoChildren", box.special_use]
    return [word for word in words if word]
