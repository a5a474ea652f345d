"""The window: which of the queue's messages the schedule knows, and everything else only the index.

Invariants:
  1. A message that could run soon is in the schedule while there is room for it; all others are rows of the index.
     What is neither is found by looking through messages/.
  2. Nothing here is the authority: a row says which file to read, and the file says what is to be done.
  3. A message that an attempt has is left to that.
"""

import asyncio
import itertools
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from posthouse.base.clock import Clock
from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.attempt import Router
from posthouse.mailqueue.courier import Route
from posthouse.mailqueue.index import NEVER, Index, Row, census
from posthouse.mailqueue.schedule import REMEMBERED, Job, Schedule, due_at
from posthouse.mailqueue.spool import BusyError, Claim, CorruptMessageError, QueuedMessage, Spool, owner_of
from posthouse.mailqueue.state import MessageState
from posthouse.runtime.log import log, trace_time
from posthouse.runtime.measures import QUEUE_MESSAGES, QUEUE_OLDEST

BATCH = 100
"""How many messages are read between two looks at what is due."""
NAMES = 1000
"""How many names are looked up in the index at a time."""
SORTED = 100_000
"""How many names are put in order at a time: some 10 MB."""
SOON_SECONDS = 1.0
"""What is due later than that is left to the index."""
REFILL_SECONDS = 0.1
"""How soon what was full is looked at again."""
SET_BACK_SECONDS = 60.0
"""By how much a clock has to go back for it to matter."""
MEASURE_SECONDS = 10.0
"""How often what waits is counted."""
MEASURE_SHARE = 50
"""Of all time no more than a fiftieth goes into that."""
T = TypeVar("T")

CLOSING = Route("", "")
"""Jobs with this route have nobody to deliver to: a message to be removed, or a report that is owed."""
UNROUTED = Route("", "unrouted")
"""Jobs for recipients that could not be routed when they were seen; the attempt says why."""
OVERDUE = Route("", "overdue")
"""Jobs whose destination is left alone, and whose sender must hear of that now: nobody is asked."""


class Window:
    """Fills ``schedule`` from the spool and the index. ``is_held``: an attempt has the message."""

    def __init__(
        self,
        spool: Spool,
        schedule: Schedule,
        policy: QueuePolicy,
        clock: Clock,
        route: Router,
        is_held: Callable[[str], bool],
    ) -> None:
        self._spool = spool
        self._index = Index(spool.directory)
        self._schedule = schedule
        self._policy = policy
        self._clock = clock
        self._route = route
        self._is_held = is_held
        self._here: set[str] = set()
        self._rowed: set[str] = set()
        self._changes: dict[str, list[Row]] = {}
        self._ways: dict[str, Route] = {}
        self._using = asyncio.Lock()
        self._is_open = False
        self._clock_seen = (clock.now().timestamp(), clock.monotonic())
        self.refill_at = 0.0
        """When the index may have something that is due."""
        self.must_look = True
        """Whether there may be messages of which nothing is known."""
        self.unsaved: dict[str, MessageState] = {}
        """States that could not be written: memory is the better record of these."""

    async def open(self) -> None:
        if not self._is_open:
            await asyncio.to_thread(self._index.open)
            self._is_open = True
            now = self._clock.now().timestamp()
            await self._ask(lambda: self._index.bring_forward(now + self._policy.maximum_wait_seconds, now), None)

    async def close(self) -> None:
        if self._is_open:
            await self.flush()
            async with self._using:
                self._is_open = False
                await asyncio.to_thread(self._index.close)

    # What comes in.

    async def look(self, started: Callable[[], None]) -> None:
        """Find what is in messages/ and not in the index. Raises ``OSError``."""
        self.must_look = False
        names = self._spool.names()
        # In their order, which is that of time: their files are beside each other on the disk.
        while batch := await asyncio.to_thread(lambda: sorted(itertools.islice(names, SORTED))):
            for start in range(0, len(batch), NAMES):
                await self.flush()
                some = batch[start : start + NAMES]
                missing = await self._ask(lambda some=some: self._index.missing(some), some)
                await self.admit_all([name for name in missing if name not in self._here], started, is_rough=True)

    async def refill_if_due(self, started: Callable[[], None]) -> None:
        """``refill``, when it is time."""
        if self.refill_at <= self._clock.now().timestamp():
            await self.refill(started)

    async def refill(self, started: Callable[[], None]) -> None:
        """Take what is due out of the index, as far as there is room."""
        now = self._clock.now().timestamp()
        limit = self._schedule.room // 2
        if not limit:
            self.refill_at = now + REFILL_SECONDS
            return
        await self.flush()
        routes, owners = self._schedule.full()
        full = [str(route) for route in routes]
        pairs = [(str(route), owner) for route, owner in owners]
        names, self.refill_at = await self._ask(lambda: self._index.take(now, full, pairs, limit), ([], NEVER))
        if full or pairs or self.refill_at <= now:
            self.refill_at = max(min(self.refill_at, now + REFILL_SECONDS), now)
        fresh = [name for name in names if name not in self._here]
        self._rowed.update(names)
        gone = set(fresh) - set(await self.admit_all(fresh, started))
        for name in gone:
            self.forget(name)

    async def admit_all(
        self,
        names: Sequence[str],
        started: Callable[[], None],
        *,
        woken: frozenset[str] = frozenset(),
        is_rough: bool = False,
    ) -> list[str]:
        """Read these messages and put them where they belong; which of them there are.

        ``is_rough``: what can't start now is put down without asking the directory.
        """
        found: list[str] = []
        for start in range(0, len(names), BATCH):
            for message in await asyncio.to_thread(self._load, names[start : start + BATCH], self._spool.load):
                found.append(message.id)
                if message.id in woken:
                    self._rowed.add(message.id)  # the index may have it, with when it was due until now
                if self._is_held(message.id):
                    continue
                if is_rough and (groups := self._roughly(message)):
                    self._set_down(message, groups)
                else:
                    await self._admit(message, is_woken=message.id in woken)
            started()
        return found

    async def admit_new(self, names: Sequence[str], started: Callable[[], None], claims: dict[str, Claim]) -> None:
        """Like ``admit_all``, for what was written a moment ago: it is in memory, so that reading it needs no thread,
        and what starts at once needs no second reading: its claim is in ``claims``."""
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            for message in self._load(batch, lambda name: self._claim(name, claims)):
                await self._admit(message, is_woken=False)
            started()
            for name in batch:
                if name in claims and not self._is_held(name):
                    claims.pop(name).release()

    async def put(self, message: QueuedMessage, places: Iterable[int]) -> None:
        """Schedule the next attempts for those of these recipients that need one."""
        for route, group, due in await self._groups(message, places):
            self._schedule.put(message.id, route, frozenset(group), due, owner_of(message))

    async def follow_clock(self) -> None:
        """Where it was set back, what waits goes on waiting for as long as it would have."""
        (seen, at), now, elapsed = self._clock_seen, self._clock.now().timestamp(), self._clock.monotonic()
        self._clock_seen = (now, elapsed)
        change = now - seen - (elapsed - at)
        if change < -SET_BACK_SECONDS:
            await self.flush()
            self._schedule.shift(change)
            self.refill_at += change
            await self._ask(lambda: self._index.shift(change), None)

    # What goes.

    def settle(self, message: QueuedMessage) -> None:
        """No attempt has the message any more: what can't run soon is left to the index."""
        jobs = self._schedule.jobs(message.id)
        now = self._clock.now().timestamp()
        if not any(max(job.due, self._schedule.paused_until(job.route)) <= now + SOON_SECONDS for job in jobs):
            self._set_down(message, [(job.route, job.recipients, job.due) for job in jobs])

    async def step_back(self, route: Route, started: Callable[[], None]) -> None:
        """The destination is left alone: its messages need not be known meanwhile."""
        names = [name for name in self._schedule.messages(route) if not self._is_held(name)]
        await self.admit_all(names, started)

    def put_again(self, job: Job, wait_seconds: float) -> None:
        due = self._clock.now().timestamp() + wait_seconds
        self._here.add(job.message)
        self._schedule.put(job.message, job.route, job.recipients, due, job.owner)

    def forget(self, name: str) -> None:
        """There is no such message any more."""
        self._here.discard(name)
        self.unsaved.pop(name, None)
        self._schedule.drop(name)
        self._changes.pop(name, None)
        if name in self._rowed:
            self._rowed.discard(name)
            self._changes[name] = []

    def knows(self, name: str) -> bool:
        """Whether it is in the schedule, or was a moment ago."""
        return name in self._here or self._is_held(name)

    async def flush(self) -> None:
        """Write what has changed into the index."""
        changes, self._changes = self._changes, {}
        if changes:
            await self._ask(lambda: self._index.write(changes), None)

    async def measure(self) -> None:
        """Count what waits, from time to time, until it is cancelled."""
        while True:
            began = asyncio.get_running_loop().time()
            await self._measure()
            seconds = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(MEASURE_SECONDS, MEASURE_SHARE * seconds))

    async def _measure(self) -> None:
        now = self._clock.now().timestamp()
        here = len(self._here), min(self._here, default="")
        try:
            found = await asyncio.to_thread(census, self._spool.directory, now)
        except (sqlite3.Error, OSError) as failure:
            log.warning("queue-not-counted", error=str(failure))
            return
        waiting, first = found["active"]
        found["active"] = waiting + here[0], min(filter(None, (first, here[1])), default="")
        for state, (count, oldest) in found.items():
            QUEUE_MESSAGES.set(count, state)
            QUEUE_OLDEST.set(max(now - trace_time(oldest), 0.0) if oldest else 0.0, state)

    # Inside.

    async def _ask(self, question: Callable[[], T], otherwise: T) -> T:
        async with self._using:
            if not self._is_open:
                return otherwise
            try:
                return await asyncio.to_thread(question)
            except sqlite3.Error as failure:
                log.error("queue-index-failed", error=str(failure), consequence="made anew")
                self._rowed.clear()
                self.must_look = True
                await asyncio.to_thread(self._index.replace)
                return otherwise

    def _claim(self, name: str, claims: dict[str, Claim]) -> QueuedMessage | None:
        if self._is_held(name):
            return None
        try:
            claim = self._spool.claim(name)
        except BusyError:
            return self._spool.load(name)
        if claim is None:
            return None
        claims[name] = claim
        return claim.message

    def _load(self, names: Iterable[str], read: Callable[[str], QueuedMessage | None]) -> list[QueuedMessage]:
        messages: list[QueuedMessage] = []
        for name in names:
            try:
                message = read(name)
            except CorruptMessageError as failure:
                self._spool.set_aside(name, str(failure))
            except OSError as failure:
                log.error("queue-read-failed", trace=name, error=str(failure))
            else:
                if message is not None:
                    message.state = self.unsaved.get(name, message.state)
                    messages.append(message)
        return messages

    async def _admit(self, message: QueuedMessage, *, is_woken: bool) -> None:
        """Put what the message still needs into the schedule, or down."""
        self._schedule.drop(message.id)
        state, now = message.state, self._clock.now().timestamp()
        groups: list[tuple[Route, Iterable[int], float]] = []
        if state.is_done:
            groups.append((CLOSING, (), 0.0))
        elif not state.hold:
            if any(recipient.owed for recipient in state.recipients):
                groups.append((CLOSING, (), due_at(state.report_after, now, self._policy)))
            groups += await self._groups(message, range(len(state.recipients)))
        if self._is_held(message.id):
            return
        for route, _, due in groups:
            # The operator who says "retry" means now.
            if is_woken and due <= now:
                self._schedule.resume(route)
        owner = owner_of(message)
        if not any(self._may_start(route, due, owner, now) for route, _, due in groups):
            self._set_down(message, groups)
            return
        self._here.add(message.id)
        for route, group, due in groups:
            self._schedule.put(message.id, route, frozenset(group), due, owner)

    def _roughly(self, message: QueuedMessage) -> list[tuple[Route, Iterable[int], float]]:
        """Where and when the recipients are due, by how others of their domains went; nothing: ask.

        Only for what can't start now. Where it was wrong, the attempt finds that out.
        """
        state, now = message.state, self._clock.now().timestamp()
        if state.is_done or state.hold or any(recipient.owed for recipient in state.recipients):
            return []
        together: dict[Route, float] = {}
        for recipient, its in zip(message.envelope.recipients, state.recipients, strict=True):
            if its.is_pending:
                route = self._ways.get(recipient.address.rpartition("@")[2])
                if route is None:
                    return []
                due = due_at(its.next_attempt, now, self._policy)
                together[route] = min(due, together.get(route, due))
        owner = owner_of(message)
        if any(self._may_start(route, due, owner, now) for route, due in together.items()):
            return []
        return [(route, (), due) for route, due in together.items()]

    def _may_start(self, route: Route, due: float, owner: str, now: float) -> bool:
        return max(due, self._schedule.paused_until(route)) <= now + SOON_SECONDS and (
            not route.courier or self._schedule.has_room(route, owner)
        )

    async def _groups(
        self, message: QueuedMessage, places: Iterable[int]
    ) -> list[tuple[Route, Iterable[int], float]]:
        """Those of the recipients that still wait, by route, and when each is due."""
        together = defaultdict[Route, list[int]](list)
        overdue_at = _overdue_at(message, self._policy)
        now = self._clock.now().timestamp()
        for place in places:
            state = message.state.recipients[place]
            if state.is_pending:
                route = await self._route_or_none(message, place) or UNROUTED
                is_due = due_at(state.next_attempt, now, self._policy) <= now
                is_overdue = is_due and overdue_at <= now < self._schedule.paused_until(route)
                together[OVERDUE if is_overdue else route].append(place)
        planned = [recipient.next_attempt for recipient in message.state.recipients]
        return [
            (route, group, min([due_at(planned[place], now, self._policy) for place in group]))
            for route, group in together.items()
        ]

    async def _route_or_none(self, message: QueuedMessage, place: int) -> Route | None:
        address = message.envelope.recipients[place].address
        try:
            route = await self._route(address, message.envelope.sender)
        except Exception:  # noqa: BLE001 - the attempt will say, and log, why
            return None
        if len(self._ways) >= REMEMBERED:
            self._ways.clear()
        self._ways[address.rpartition("@")[2]] = route
        return route

    def _set_down(self, message: QueuedMessage, groups: Iterable[tuple[Route, Iterable[int], float]]) -> None:
        self._schedule.drop(message.id)
        self._here.discard(message.id)
        self._rowed.discard(message.id)
        owner = owner_of(message)
        rows = [Row(message.id, str(route), owner, self._due(message, route, due)) for route, _, due in groups]
        if not rows and message.state.hold:
            rows = [Row(message.id, str(CLOSING), owner, NEVER)]
        self._changes[message.id] = rows
        self.refill_at = min([self.refill_at, *(row.due for row in rows)])

    def _due(self, message: QueuedMessage, route: Route, due: float) -> float:
        """When it is to be looked at again: not while its destination is left alone, unless it is overdue."""
        paused = self._schedule.paused_until(route)
        return min(paused, max(due, _overdue_at(message, self._policy))) if paused > due else due


def _overdue_at(message: QueuedMessage, policy: QueuePolicy) -> float:
    """When its sender must hear of it, also while its destination is left alone."""
    warns = policy.delay_warning_seconds and not message.state.is_warned
    return message.arrived + min(policy.delay_warning_seconds if warns else NEVER, policy.lifetime_seconds)
