"""The queue runner: takes what is due out of the spool, hands it to couriers, and records what came of it.

Invariants:
  1. A recipient is done only once that is on disk, or the message is removed because all of them are.
  2. A report is committed before its recipient is done with; a crash in between makes it twice, never not at all.
  3. Every attempt has the message's lock; attempts on one message, each with its own route, share it.
  4. No message, courier or report can stop the runner: what fails unexpectedly is logged and tried again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from posthouse.base.clock import Clock
from posthouse.config.settings import QueuePolicy
from posthouse.journal.journal import Journal
from posthouse.mailqueue.attempt import Router, call_courier, check_routes, turned_away
from posthouse.mailqueue.courier import Courier, Deferred, Outcome, Route
from posthouse.mailqueue.outcomes import record
from posthouse.mailqueue.schedule import Job, Schedule
from posthouse.mailqueue.spool import BusyError, Claim, CorruptMessageError, QueuedMessage, Spool, owner_of
from posthouse.mailqueue.state import MessageState
from posthouse.runtime.log import log
from posthouse.runtime.watch import Subscription, Watch

RESCAN_SECONDS = 60.0
"""How often the spool is looked through although nothing was announced."""
BUSY_WAIT_SECONDS = 1.0
"""How long a message that the operator is changing is left alone."""
SETTLE_SECONDS = 10.0
"""At a drain: how long attempts that are over may take to be recorded."""
BATCH = 100
"""How many messages are read between two looks at what is due."""

CLOSING = Route("", "")
"""Jobs with this route have nobody to deliver to: a message to be removed, or a report that is owed."""
UNROUTED = Route("", "unrouted")
"""Jobs for recipients that could not be routed when they were seen; the attempt says why."""

Reporter = Callable[[QueuedMessage, Sequence[int]], Awaitable[None]]
"""Commits a report on these recipients (whose state says what is ``owed``) before it returns, or raises."""


@dataclass(slots=True, eq=False)
class _Held:
    """A claim and the attempts that share it. ``settling`` guards the message's state."""

    claim: Claim
    users: int = 0
    is_gone: bool = False
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)


class Runner:
    """The one of this host: ``run`` until ``drain``."""

    def __init__(
        self,
        spool: Spool,
        journal: Journal,
        watch: Watch | None,
        policy: QueuePolicy,
        clock: Clock,
        route: Router,
        couriers: Mapping[str, Courier],
        report: Reporter,
    ) -> None:
        self._spool = spool
        self._journal = journal
        self._watch = watch
        self._policy = policy
        self._clock = clock
        self._route = route
        self._couriers = couriers
        self._report = report
        self._schedule = Schedule(policy)
        self._known: set[str] = set()
        self._held: dict[str, _Held] = {}
        self._woken: set[str] = set()
        self._without_outcome: dict[str, set[Job]] = {}
        self._unsaved: dict[str, MessageState] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._delivering: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()
        self._must_look = True
        self._look_not_before = self._rescan_at = 0.0
        self._draining = False

    async def run(self) -> None:
        """Work until ``drain``. Raises ``OSError`` when the spool can't be used at all."""
        await asyncio.to_thread(self._spool.prepare)
        await asyncio.to_thread(self._spool.sweep)
        subscriptions = self._subscribe()
        try:
            while not self._draining:
                await self._look_if_due()
                self._start_due()
                await self._rest()
        finally:
            for subscription in subscriptions:
                subscription.cancel()

    async def run_once(self) -> None:
        """Attempt once everything that is due now, and return when that is over."""
        await self._look()
        self._start_due()
        while self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._start_due()

    async def drain(self, limit_seconds: float = 30.0) -> None:
        """Start nothing more; wait for what runs, and break off what takes longer than the limit."""
        self._draining = True
        self._stirred.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_seconds)
        # What is being delivered is tried again later; what has been delivered must still be written down.
        for task in self._delivering:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # Looking: what is there, and when is it due.

    def _subscribe(self) -> list[Subscription]:
        if self._watch is None:
            return []
        try:
            places = (self._spool.messages, self._spool.wakes)
            return [self._watch.subscribe(directory, self._on_change) for directory in places]
        except OSError as failure:
            log.error("queue-watch-failed", error=str(failure), consequence=f"a look every {RESCAN_SECONDS:g} s")
            return []

    def _on_change(self) -> None:
        self._must_look = True
        self._stirred.set()

    async def _rest(self) -> None:
        """Until something happens or is due."""
        wait = (self._look_not_before if self._must_look else self._rescan_at) - asyncio.get_running_loop().time()
        due = self._schedule.next_event()
        if due is not None:
            wait = min(wait, due - self._clock.now().timestamp())
        try:
            async with asyncio.timeout(max(wait, 0.0)):
                await self._stirred.wait()
        except TimeoutError:
            pass
        self._stirred.clear()

    async def _look_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= (self._look_not_before if self._must_look else self._rescan_at):
            self._rescan_at = now + RESCAN_SECONDS
            try:
                await self._look()
            except OSError as failure:
                log.error("queue-look-failed", error=str(failure))

    async def _look(self) -> None:
        """Find what is new, what has changed and what has gone. Raises ``OSError``."""
        self._must_look = False
        self._woken.update(await asyncio.to_thread(self._spool.woken))
        loop_time = asyncio.get_running_loop().time
        started = loop_time()
        names = await asyncio.to_thread(lambda: set(self._spool.names()))
        # This reads the whole directory: in a long queue no more than a fifth of the time goes into it.
        self._look_not_before = loop_time() + 4 * (loop_time() - started)
        for name in self._known - names - self._held.keys():
            self._forget(name)
        self._woken &= names
        await self._admit_all(sorted(self._woken - self._held.keys()))
        await self._admit_all(sorted(names - self._known))

    async def _admit_all(self, names: list[str]) -> None:
        for start in range(0, len(names), BATCH):
            for message in await asyncio.to_thread(self._load, names[start : start + BATCH]):
                # One that is held meanwhile stays woken until it is let go.
                if message.id not in self._held:
                    self._known.add(message.id)
                    self._schedule.drop(message.id)
                    await self._admit(message)
            self._start_due()

    def _load(self, names: list[str]) -> list[QueuedMessage]:
        messages: list[QueuedMessage] = []
        for name in names:
            try:
                message = self._spool.load(name)
            except CorruptMessageError as failure:
                self._spool.set_aside(name, str(failure))
            except OSError as failure:
                log.error("queue-read-failed", trace=name, error=str(failure))
            else:
                if message is not None:
                    messages.append(message)
        return messages

    async def _admit(self, message: QueuedMessage) -> None:
        """Put what the message still needs into the schedule."""
        state = message.state
        is_woken = message.id in self._woken
        self._woken.discard(message.id)
        if state.is_done:
            self._schedule.put(message.id, CLOSING, frozenset(), 0.0)
        elif not state.hold:
            if any(recipient.owed for recipient in state.recipients):
                self._schedule.put(message.id, CLOSING, frozenset(), state.report_after)
            await self._put(message, range(len(state.recipients)), is_woken=is_woken)

    async def _put(self, message: QueuedMessage, places: Sequence[int], *, is_woken: bool = False) -> None:
        """Schedule the next attempts for those of these recipients that need one."""
        together = defaultdict[Route, list[int]](list)
        for place in places:
            if message.state.recipients[place].is_pending:
                together[await self._route_or_none(message, place) or UNROUTED].append(place)
        now = self._clock.now().timestamp()
        for route, group in together.items():
            due = min([message.state.recipients[place].next_attempt for place in group])
            self._schedule.put(message.id, route, frozenset(group), due, owner_of(message))
            if is_woken and due <= now:  # the operator who says "retry" means now
                self._schedule.resume(route)

    async def _route_or_none(self, message: QueuedMessage, place: int) -> Route | None:
        try:
            return await self._route(message.envelope.recipients[place].address)
        except Exception:  # noqa: BLE001 - the attempt will say, and log, why
            return None

    def _forget(self, name: str) -> None:
        self._known.discard(name)
        self._unsaved.pop(name, None)
        self._schedule.drop(name)

    # Working.

    def _start_due(self) -> None:
        now = self._clock.now().timestamp()
        while not self._draining and (job := self._schedule.take(now)) is not None:
            self._without_outcome.setdefault(job.message, set()).add(job)
            task = asyncio.create_task(self._work(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, job: Job) -> None:
        try:
            held = self._hold(job)
            if held is not None:
                try:
                    await self._attempt(held, job)
                finally:
                    self._let_go(held)
        except Exception as failure:  # noqa: BLE001 - invariant 4
            log.error("queue-attempt-broken", trace=job.message, route=str(job.route), exc_info=failure)
            self._put_again(job, self._policy.minimum_wait_seconds)
        finally:
            self._has_outcome(job)
            self._schedule.release(job)
            self._stirred.set()

    def _has_outcome(self, job: Job) -> None:
        """The job has no more to say; called a second time it changes nothing."""
        others = self._without_outcome.get(job.message, set())
        others.discard(job)
        if not others:
            self._without_outcome.pop(job.message, None)

    def _hold(self, job: Job) -> _Held | None:
        """The message with its lock; None when there is nothing to do now."""
        held = self._held.get(job.message)
        if held is None:
            try:
                claim = self._spool.claim(job.message)
            except BusyError:
                self._put_again(job, BUSY_WAIT_SECONDS)
                return None
            except CorruptMessageError as failure:
                self._spool.set_aside(job.message, str(failure))
                claim = None
            if claim is None:
                self._forget(job.message)
                return None
            claim.message.state = self._unsaved.get(job.message, claim.message.state)
            held = self._held[job.message] = _Held(claim)
        held.users += 1
        return held

    def _let_go(self, held: _Held) -> None:
        held.users -= 1
        if held.users == 0:
            name = held.claim.message.id
            del self._held[name]
            held.claim.release()
            if name in self._woken:
                self._on_change()

    def _put_again(self, job: Job, wait_seconds: float) -> None:
        due = self._clock.now().timestamp() + wait_seconds
        self._schedule.put(job.message, job.route, job.recipients, due, job.owner)

    async def _attempt(self, held: _Held, job: Job) -> None:
        """One courier, once, for those of the job's recipients that are still its own."""
        message = held.claim.message
        state = message.state
        if state.hold and not state.is_done:
            return
        pending = (
            [] if state.deleted else sorted(place for place in job.recipients if state.recipients[place].is_pending)
        )
        outcomes, remaining = await check_routes(self._route, message, pending, job.route)
        if remaining:
            outcomes |= zip(remaining, await self._deliver(message, remaining, job), strict=True)
        self._has_outcome(job)
        async with held.settling:
            if held.is_gone:
                return
            now = self._clock.now().timestamp()
            for place, outcome in outcomes.items():
                record(message, place, outcome, now, self._policy)
            await self._settle(held, is_changed=bool(outcomes))
            if not held.is_gone:
                await self._put(message, pending)

    async def _deliver(self, message: QueuedMessage, places: Sequence[int], job: Job) -> list[Outcome]:
        task = asyncio.current_task()
        assert task is not None
        self._delivering.add(task)
        try:
            outcomes = await call_courier(self._couriers, message, places, job.route)
        finally:
            self._delivering.discard(task)
        if not all(isinstance(outcome, Deferred) for outcome in outcomes):
            self._schedule.taken(job)
        elif all(turned_away(outcome) for outcome in outcomes):
            self._schedule.failed(job, self._clock.now().timestamp())
        else:
            self._schedule.resume(job.route)
        return outcomes

    # Settling: reports, then the state on disk or the message removed.

    async def _settle(self, held: _Held, *, is_changed: bool) -> None:
        message = held.claim.message
        state = message.state
        # Reports wait for the last of the attempts that run together: one report instead of one a route.
        is_last = message.id not in self._without_outcome
        if is_last and not state.deleted and any(recipient.owed for recipient in state.recipients):
            is_changed |= await self._make_report(message)
        if state.is_done:
            held.is_gone = await self._remove(message)
        elif is_changed or message.id in self._unsaved:
            await self._save(message)

    async def _make_report(self, message: QueuedMessage) -> bool:
        """Report what is owed; whether the state is another now."""
        now = self._clock.now().timestamp()
        state = message.state
        is_due = state.report_after <= now
        if is_due:
            owed = [place for place, recipient in enumerate(state.recipients) if recipient.owed]
            try:
                await self._report(message, owed)
            except Exception as failure:  # noqa: BLE001 - invariant 4
                log.error("queue-report-failed", trace=message.id, exc_info=failure)
                state.report_after = now + self._policy.minimum_wait_seconds
            else:
                for place in owed:
                    state.recipients[place].owed = None
                return True
        self._schedule.put(message.id, CLOSING, frozenset(), state.report_after)
        return is_due

    async def _remove(self, message: QueuedMessage) -> bool:
        try:
            await self._spool.remove(message, self._journal)
        except OSError as failure:
            # Only memory knows that this message is done with.
            self._unsaved[message.id] = message.state
            log.error("queue-not-removed", trace=message.id, error=str(failure))
            due = self._clock.now().timestamp() + self._policy.minimum_wait_seconds
            self._schedule.put(message.id, CLOSING, frozenset(), due)
            return False
        self._forget(message.id)
        log.debug("queue-removed", trace=message.id, deleted=message.state.deleted)
        return True

    async def _save(self, message: QueuedMessage) -> None:
        try:
            await asyncio.to_thread(self._spool.save, message)
            self._unsaved.pop(message.id, None)
        except OSError as failure:
            # On a full disk memory is the better record: nobody gets the message twice while we run.
            self._unsaved[message.id] = message.state
            log.error("queue-state-not-saved", trace=message.id, error=str(failure))
