"""One selected mailbox in one session: the sequence numbers that its client believes in.

Invariants:
  1. Between two ``refresh(expunge=True)`` no sequence number changes its meaning (RFC 3501 §7.4.1).
  2. UIDs ascend; a message that is new to the view comes last.
  3. A view holds eight octets a message: its UID and a mask of its flags. It changes on the loop's thread only.
  4. Whoever knows all that the view told knows the mailbox as of ``modseq``: while it keeps expunges back, that
     stays behind.
"""

import asyncio
import time
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from posthouse.message.query import Query, Ranges
from posthouse.message.threads import Threaded
from posthouse.protocols.imap.sequence import uid_slices
from posthouse.runtime.watch import Subscription
from posthouse.store import changes, copying, filename, finding, looking, sync
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.changes import Mode
from posthouse.store.errors import NoSuchMailbox, ReadOnly
from posthouse.store.fetch import BATCH_MESSAGES, Columns, Message, Request, Source
from posthouse.store.index import Mailbox
from posthouse.store.keywords import RECENT, Keywords
from posthouse.store.layout import Folder
from posthouse.store.looking import Look
from posthouse.store.model import NO_CHANGES, Changes, Copied, Missed, Stored, Want
from posthouse.store.quota import Limit
from posthouse.store.searchplan import Scope
from posthouse.store.threads import Threads

T = TypeVar("T")


class View:
    """Made by ``AccountStore.select``."""

    def __init__(
        self,
        threads: Threads,
        files: AccountFiles,
        folder: Folder,
        name: str,
        limit: Limit | None,
        *,
        read_only: bool,
    ) -> None:
        self.name = name
        self.read_only = read_only
        self.recent = 0
        self._shows_recent = True
        self.saved: Sequence[int] = []
        """UIDs, ascending, that a search has found and kept; some may be gone."""
        self.touched: set[int] | None = None
        """UIDs of what ``refresh`` found changed or new since this was emptied; None: nobody wants to know."""
        self.uids: Sequence[int] = array("I")
        self._masks = array("I")
        self.modseq = 0
        self._gone: set[int] = set()
        self._told: dict[int, int] = {}
        self._threads = threads
        self._files = files
        self._folder = folder
        self._limit = limit
        self._box: Mailbox
        self._letters: Keywords
        self._source: Source
        self._subscriptions: list[Subscription] = []
        self._timer: asyncio.TimerHandle | None = None
        self._callback: Callable[[], None] | None = None

    async def open(self) -> None:
        """The first look at everything."""
        look = await self._run(looking.first_look, self._files, self._folder, self.read_only)
        self._source = Source(self._files, self._folder, look.box.uidvalidity, read_only=self.read_only)
        self._letters = self._files.keywords(self._folder)
        self._known_keywords = self._letters.names
        self.uids = array("I", [uid for uid, _ in look.messages])
        since = look.recent_from
        self._masks = array("I", [mask | RECENT if uid >= since else mask for uid, mask in look.messages])
        self.recent = len(self.uids) - bisect_left(self.uids, since)
        self._box = look.box
        self.modseq = look.box.modseq

    def hide_recent(self) -> None:
        """From now on nothing is ``\\Recent`` here: IMAP4rev2 has no such flag (RFC 9051 appendix E)."""
        self._shows_recent = False
        if self.recent:
            self._masks = array("I", [mask & ~RECENT for mask in self._masks])
            self.recent = 0

    @property
    def uidvalidity(self) -> int:
        return self._box.uidvalidity

    @property
    def guid(self) -> str:
        """What this mailbox is known by whatever its name, and no other one."""
        return self._box.guid

    @property
    def uidnext(self) -> int:
        return self._box.uidnext

    @property
    def known_modseq(self) -> int:
        """As of which modification sequence the view knows its mailbox; what it keeps back included."""
        return self._box.modseq

    @property
    def withholds(self) -> bool:
        """Whether messages are gone that the client has not been told of."""
        return bool(self._gone)

    @property
    def first_unseen(self) -> int:
        """The sequence number of the first message without ``\\Seen``, or 0."""
        return next((seq for seq, mask in enumerate(self._masks, 1) if not mask & filename.SEEN), 0)

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords that this mailbox has letters for."""
        return tuple(name for name in self._letters.names if name)

    def may(self, right: str) -> bool:
        """Whether this user has a right here (RFC 4314 §2.1); in his own mailbox he has all."""
        return len(right) == 1

    def is_of(self, files: AccountFiles) -> bool:
        """Whether the mailbox lies in that account."""
        return self._files is files

    def has_new_keywords(self) -> bool:
        """Whether there are more of them than when this, or ``open``, was last called."""
        before, self._known_keywords = self._known_keywords, self._letters.names
        return before != self._known_keywords

    async def refresh(self, *, expunge: bool, own: bool = False) -> Changes:
        """What others changed. Without ``expunge``, messages that are gone keep their numbers for now.

        ``own``: and what this session changed, but for what ``told`` was called with.
        """
        if self._is_current():
            if not (expunge and self._gone):
                return NO_CHANGES
            return self._take(Look(self._box, [], {}, (), 0), expunge=True, own=False)
        look = await self._run(looking.look, self._files, self._folder, self._box.modseq, self.read_only)
        if look.box.uidvalidity != self._box.uidvalidity:
            raise NoSuchMailbox(self.name)  # another one has taken its place
        taken = self._take(look, expunge=expunge, own=own)
        self._arm()
        return taken

    async def fetch(
        self,
        uids: Sequence[int],
        want: Want,
        render: Callable[[Message], T],
        *,
        names: frozenset[bytes] = frozenset(),
        render_columns: Callable[[Columns], T] | None = None,
    ) -> AsyncIterator[list[T]]:
        """What ``render`` makes of the messages, in batches; it runs in a store thread. Who is gone is left out.

        ``names`` are the header fields that FIELDS means. Where all is in the index already, ``render_columns``
        renders many messages at once.
        """
        request = Request(want, render, render_columns, names)
        pending, flags = self._flagged(uids)
        at = 0
        while at < len(pending):
            until = at + BATCH_MESSAGES
            rendered, done = await self._run(self._source.batch, pending[at:until], flags[at:until], request)
            at += done
            if rendered:
                yield rendered

    async def store_flags(
        self, uids: Sequence[int], flags: frozenset[str], mode: Mode
    ) -> list[tuple[int, frozenset[str]]]:
        """Each UID with all its flags as they are now. ``\\Recent`` can't be changed (RFC 3501 §2.3.2)."""
        stored = await self.store_unchanged(uids, flags, mode, None)
        return [(uid, set_flags) for uid, set_flags, _ in stored.messages]

    async def store_unchanged(
        self, uids: Sequence[int], flags: frozenset[str], mode: Mode, unchanged_since: int | None
    ) -> Stored:
        """The same, where the messages have not changed since; None: in any case."""
        self._require_write()
        stored, modified = await self._run(
            changes.store_flags, self._files, self._folder, self._known(uids), flags, mode, unchanged_since
        )
        result: list[tuple[int, frozenset[str], int]] = []
        for uid, (mask, modseq) in sorted(stored.items()):
            at = self._position(uid)
            if at is not None:
                mask |= self._masks[at] & RECENT
                self._masks[at] = mask
                result.append((uid, self._letters.flags(mask), modseq))
        return Stored(tuple(result), tuple(modified))

    def told(self, stored: Stored) -> None:
        """The client has been told of these: the next ``refresh`` need not say it again."""
        self._told.update((uid, modseq) for uid, _, modseq in stored.messages)

    async def missed(self, since: int, ranges: Ranges | None = None) -> Missed:
        """What somebody missed who knew the modification sequence ``since``, among these UIDs if given."""
        return await self._run(looking.missed, self._files, self._folder, self.uidvalidity, self.uids, since, ranges)

    async def highest_modseq(self, uids: Sequence[int]) -> int:
        """That of the message among these that changed last, as far as the view knows."""
        return min(await self._run(looking.highest_modseq, self._files, self._folder, uids), self.known_modseq)

    def flags(self, uids: Sequence[int]) -> list[tuple[int, int, frozenset[str]]]:
        """Sequence number, UID and flags of those that the view has."""
        places = ((at, uid) for uid in uids if (at := self._position(uid)) is not None)
        return [(at + 1, uid, self._letters.flags(self._masks[at])) for at, uid in places]

    async def expunge(self, uids: Sequence[int] | None = None) -> None:
        """Removes what is flagged ``\\Deleted``, among ``uids`` if given. ``refresh`` tells the view."""
        self._require_write()
        await self._run(changes.expunge, self._files, self._folder, self._known(self.uids if uids is None else uids))

    async def remove(self, uids: Sequence[int]) -> None:
        """Removes messages, whatever their flags. ``refresh`` tells the view."""
        self._require_write()
        await self._run(changes.discard, self._files, self._folder, uids)

    async def copy(self, uids: Sequence[int], target: str) -> Copied:
        """All or nothing. Raises NoSuchMailbox (the target), OverQuota."""
        return await self._transfer(uids, target, move=False)

    async def move(self, uids: Sequence[int], target: str) -> Copied:
        """All or nothing; ``refresh`` tells the view what is gone. Raises NoSuchMailbox."""
        self._require_write()
        return await self._transfer(uids, target, move=True)

    async def search(self, query: Query) -> list[int]:
        """The UIDs that match, ascending."""
        return await finding.search(self, query)

    async def relevancy(self, query: Query, uids: Sequence[int]) -> dict[int, int]:
        """How well each of these fits a query with FUZZY in it, from 1 to 100."""
        return await finding.relevancy(self, query, uids)

    async def sort(self, query: Query, criteria: Sequence[tuple[str, bool]]) -> list[int]:
        """The UIDs that match, by ``digests.SORT_COLUMNS``, each reversed or not."""
        return await finding.sort(self, query, criteria)

    async def thread(self, query: Query, arrange: Callable[[list[Threaded]], T]) -> T:
        """What ``arrange``, of ``message.threads``, makes of the messages that match."""
        return await finding.thread(self, query, arrange)

    def scope(self) -> Scope:
        """What is here at this moment, for a search."""
        key = (self._folder.name, self.uidvalidity)
        return Scope(key, self.uids[:], self._masks[:], self._letters, frozenset(self.saved), time.time())

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """``work`` on the account's files, in a store thread."""
        return await self._run(work, self._files, *arguments)

    async def uidls(self) -> dict[int, str]:
        """POP3 unique ids, by UID, that another program had given before it was our turn."""
        return await self._run(looking.uidls, self._files, self._box)

    def on_change(self, callback: Callable[[], None] | None) -> None:
        """Calls back, on the loop, when ``refresh`` may have something to tell; None ends that."""
        for subscription in self._subscriptions:
            subscription.cancel()
        self._subscriptions = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._callback = callback
        if callback is not None and self._threads.watch is not None:
            for directory in self._folder.watched:
                try:
                    subscription = self._threads.watch.subscribe(directory, callback)
                except OSError:  # no watches left: the session finds out when its client next asks
                    continue
                self._subscriptions.append(subscription)
            self._arm()

    def close(self) -> None:
        self.on_change(None)
        self._source.close()

    # On the loop's thread

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await self._threads.run(self._files, work, *arguments)
        except FileNotFoundError as error:
            raise NoSuchMailbox(self.name) from error

    def _is_current(self) -> bool:
        try:
            return self._box.is_current(self._folder.stamp(), time.time_ns())
        except FileNotFoundError:
            raise NoSuchMailbox(self.name) from None

    def _take(self, look: Look, *, expunge: bool, own: bool) -> Changes:
        """Brings the view to what a look found, and says what its client must hear."""
        before, recent_before = len(self.uids), self.recent
        for part in uid_slices(look.expunged, self.uids):
            self._gone.update(self.uids[part])
        changed: list[int] = []
        last = self.uids[-1] if self.uids else 0
        for uid, mask in look.messages:
            if uid > last:
                self._append(uid, mask, is_recent=self._shows_recent and uid >= look.recent_from)
            elif (at := self._position(uid)) is not None:
                mask |= self._masks[at] & RECENT
                if mask != self._masks[at] or (own and self._told.get(uid) != look.modseqs[uid]):
                    self._masks[at] = mask
                    changed.append(uid)
        self._told.clear()
        if self.touched is not None:
            self.touched.update(uid for uid, _ in look.messages)
        grown = len(self.uids) > before
        vanished, expunged = self._drop_gone() if expunge and self._gone else ((), ())
        self._box = look.box
        self.modseq = self.modseq if self._gone else look.box.modseq
        flags = self.flags(changed)
        return Changes(
            expunged,
            vanished,
            len(self.uids) if grown else None,
            self.recent if self.recent != recent_before else None,
            tuple(flags),
            tuple(look.modseqs[uid] for _, uid, _ in flags),
        )

    def _append(self, uid: int, mask: int, *, is_recent: bool) -> None:
        assert isinstance(self.uids, array)
        self.uids.append(uid)
        self._masks.append(mask | RECENT if is_recent else mask)
        self.recent += is_recent

    def _drop_gone(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """UIDs that go, ascending, and their numbers, each valid after those before it."""
        seqs = [seq for seq, uid in enumerate(self.uids, 1) if uid in self._gone]
        kept = [at for at, uid in enumerate(self.uids) if uid not in self._gone]
        self.uids = array("I", [self.uids[at] for at in kept])
        self._masks = array("I", [self._masks[at] for at in kept])
        self.recent = sum(1 for mask in self._masks if mask & RECENT)
        vanished = tuple(sorted(self._gone))
        self._gone = set()
        return vanished, tuple(reversed(seqs))

    def _position(self, uid: int) -> int | None:
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else None

    def _flagged(self, uids: Sequence[int]) -> tuple[list[int], list[frozenset[str]]]:
        """Those that the view has, and their flags."""
        if uids is self.uids:
            masks: Sequence[int] = self._masks
            known = list(uids)
        else:
            found = [(uid, at) for uid in uids if (at := self._position(uid)) is not None]
            known = [uid for uid, _ in found]
            masks = [self._masks[at] for _, at in found]
        flags = {mask: self._letters.flags(mask) for mask in set(masks)}
        return known, [flags[mask] for mask in masks]

    def _known(self, uids: Sequence[int]) -> list[int]:
        return list(uids) if uids is self.uids else [uid for uid in uids if self._position(uid) is not None]

    def _require_write(self) -> None:
        if self.read_only:
            raise ReadOnly(self.name)

    def _arm(self) -> None:
        """Where a foreign change may hide behind one of ours, its time to show comes without an event."""
        due = max(self._box.new_due, self._box.cur_due)
        if self._callback is None or not due or self._timer is not None:
            return
        # Never at once: where mtimes lie in the future a directory is due for ever.
        wait_ns = max(due - time.time_ns(), sync.SETTLE_NS) + sync.TICK_NS
        self._timer = asyncio.get_running_loop().call_later(wait_ns / 1e9, self._announce)

    def _announce(self) -> None:
        self._timer = None
        if self._callback is not None:
            self._callback()

    async def _transfer(self, uids: Sequence[int], target: str, *, move: bool) -> Copied:
        def work() -> Copied:
            folder = self._files.existing(target)
            return copying.copy(self._files, self._folder, folder, self._known(uids), self._limit, move=move)

        return await self._run(work)
