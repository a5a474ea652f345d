"""The queue runner: takes what is due out of the spool, hands it to couriers, and records what came of it.

Invariants:
  1. A recipient is done only once that is on disk, or the message is removed because all of them are.
  2. A report is committed before its recipient is done with; a crash in between makes it twice, never not at all.
  3. Every attempt has the message's lock; attempts on one message, each with its own route, share it.
  4. No message, courier or report can stop the runner: what fails unexpectedly is logged and tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from posthouse.base.clock import Clock
from posthouse.config.destinations import Destination
from posthouse.config.settings import QueuePolicy
from posthouse.journal.journal import Journal
from posthouse.mailqueue.attempt import NO_ANSWER, Router, call_courier, check_routes, turned_away
from posthouse.mailqueue.counting import QueueCounts
from posthouse.mailqueue.courier import Courier, Deferred, Outcome
from posthouse.mailqueue.disposal import Disposal
from posthouse.mailqueue.outcomes import record
from posthouse.mailqueue.schedule import Job, Schedule, due_at
from posthouse.mailqueue.spool import BusyError, Claim, CorruptMessageError, QueuedMessage, Spool
from posthouse.mailqueue.window import CLOSING, OVERDUE, Window
from posthouse.runtime.log import log
from posthouse.runtime.watch import Subscription, Watch

RESCAN_SECONDS = 60.0
"""How often, at most, the spool is looked through although nothing was announced."""
RESCAN_SHARE = 50
"""Of all time no more than a fiftieth goes into that."""
FLUSH_SECONDS = 0.2
"""How long the index may be behind."""
BUSY_WAIT_SECONDS = 1.0
"""How long a message that the operator is changing is left alone."""
SETTLE_SECONDS = 10.0
"""At a drain: how long attempts that are over may take to be recorded."""
ANNOUNCED = 10_000
"""Most names of new messages that are kept; beyond that the whole spool is looked through."""

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
        destinations: Mapping[str, Destination] | None = None,
    ) -> None:
        self._spool = spool
        self._journal = journal
        self._watch = watch
        self._policy = policy
        self._clock = clock
        self._route = route
        self._couriers = couriers
        self._report = report
        self._schedule, self._counts = Schedule(policy, destinations=destinations), QueueCounts()
        self._held: dict[str, _Held] = {}
        self._without_outcome: dict[str, set[Job]] = {}
        self._window = Window(spool, self._schedule, policy, clock, route, self._is_held)
        self._new: set[str] = set()
        self._fresh, self._disposal = dict[str, Claim](), Disposal()
        self._must_hear = True
        self._woken: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delivering: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._look_at = 0.0
        self._draining = False

    async def run(self) -> None:
        """Work until ``drain``. Raises ``OSError`` when the spool can't be used at all."""
        await asyncio.to_thread(self._spool.prepare)
        await self._window.open()
        subscriptions = self._subscribe()
        sweeping, measuring = asyncio.create_task(self._sweep()), asyncio.create_task(self._window.measure())
        try:
            while not self._draining:
                await self._window.follow_clock()
                self._look_if_due()
                await self._admit_announced()
                await self._window.refill_if_due(self._start_due)
                self._start_due()
                await self._window.flush()
                await self._rest()
        finally:
            for subscription in subscriptions:
                subscription.cancel()
            background = [sweeping, measuring, *([self._looking] if self._looking else [])]
            for task in background:
                task.cancel()
            await asyncio.wait(background)

    async def run_once(self) -> None:
        """Attempt once everything that is due now, and return when that is over."""
        await self._window.open()
        await self._window.follow_clock()
        await self._look()
        await self._admit_announced()
        while True:
            await self._window.refill(self._start_due)
            self._start_due()
            if not self._tasks:
                break
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        await self._window.flush()

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
        await self._disposal.close()
        await self._window.close()

    # Looking: what is there, and when is it due.

    def _subscribe(self) -> list[Subscription]:
        if self._watch is None:
            return []
        try:
            return [
                self._watch.subscribe(self._spool.messages, self._on_change, self._on_new),
                self._watch.subscribe(self._spool.wakes, self._on_change),
            ]
        except OSError as failure:
            log.error("queue-watch-failed", error=str(failure), consequence=f"a look every {RESCAN_SECONDS:g} s")
            return []

    def _on_change(self) -> None:
        self._must_hear = True
        self._stirred.set()

    def _on_new(self, name: str | None) -> None:
        if name is None or len(self._new) >= ANNOUNCED:
            self._window.must_look = True
        else:
            self._new.add(name)
        self._stirred.set()

    async def _rest(self) -> None:
        """Until something happens or is due."""
        now = self._clock.now().timestamp()
        waits = [self._look_at - asyncio.get_running_loop().time(), self._window.refill_at - now]
        due = self._schedule.next_event()
        if due is not None:
            waits.append(due - now)
        # However much is announced or due: what runs must get on meanwhile.
        wait = max(min(waits), 0.005)
        try:
            async with asyncio.timeout(wait):
                await self._stirred.wait()
        except TimeoutError:
            pass
        self._stirred.clear()

    async def _admit_announced(self) -> None:
        if self._must_hear:
            self._must_hear = False
            try:
                self._woken.update(await asyncio.to_thread(self._spool.woken))
            except OSError as failure:
                log.error("queue-look-failed", error=str(failure))
        new, self._new = self._new, set()
        woken = frozenset(name for name in self._woken if not self._is_held(name))
        # One that an attempt has stays woken until it is let go.
        self._woken -= woken
        if woken:
            await self._window.admit_all(sorted(woken), self._start_due, woken=woken)
        fresh = sorted(name for name in new if not self._window.knows(name))
        await self._window.admit_new(fresh, self._start_due, self._fresh)

    def _look_if_due(self) -> None:
        is_looking = self._looking is not None and not self._looking.done()
        now = asyncio.get_running_loop().time()
        if not is_looking and (now >= self._look_at or self._window.must_look):
            self._look_at = now + RESCAN_SECONDS
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        loop_time = asyncio.get_running_loop().time
        started = loop_time()
        self._must_hear = True
        try:
            await self._window.look(self._start_due)
        except OSError as failure:
            log.error("queue-look-failed", error=str(failure))
        ended = loop_time()
        self._look_at = ended + max(RESCAN_SECONDS, RESCAN_SHARE * (ended - started))

    async def _sweep(self) -> None:
        try:
            await asyncio.to_thread(self._spool.sweep)
        except OSError as failure:
            log.error("queue-sweep-failed", error=str(failure))

    def _is_held(self, name: str) -> bool:
        return name in self._held or name in self._without_outcome

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
            self._window.put_again(job, self._policy.minimum_wait_seconds)
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
                claim = self._fresh.pop(job.message, None) or self._spool.claim(job.message)
            except BusyError:
                self._window.put_again(job, BUSY_WAIT_SECONDS)
                return None
            except CorruptMessageError as failure:
                self._spool.set_aside(job.message, str(failure))
                claim = None
            if claim is None:
                self._window.forget(job.message)
                return None
            claim.message.state = self._window.unsaved.get(job.message, claim.message.state)
            held = self._held[job.message] = _Held(claim)
        held.users += 1
        return held

    def _let_go(self, held: _Held) -> None:
        held.users -= 1
        if held.users == 0:
            name = held.claim.message.id
            del self._held[name]
            if held.is_gone:
                self._disposal.add(held.claim)
            else:
                held.claim.release()
                self._window.settle(held.claim.message)
            if name in self._woken:
                self._on_change()

    async def _attempt(self, held: _Held, job: Job) -> None:
        """One courier, once, for those of the job's recipients that are still its own."""
        message = held.claim.message
        state = message.state
        if state.hold and not state.is_done:
            return
        pending = (
            [] if state.deleted else sorted(place for place in job.recipients if state.recipients[place].is_pending)
        )
        outcomes: dict[int, Outcome] = {}
        remaining: list[int] = []
        if job.route == OVERDUE:
            outcomes.update((place, Deferred(NO_ANSWER)) for place in pending)
        else:
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
                self._counts.outcome(job.route, outcome, now - message.arrived)
            await self._settle(held, is_changed=bool(outcomes))
            if not held.is_gone:
                await self._window.put(message, pending)

    async def _deliver(self, message: QueuedMessage, places: Sequence[int], job: Job) -> list[Outcome]:
        task = asyncio.current_task()
        assert task is not None
        self._delivering.add(task)
        began = self._clock.monotonic()
        try:
            outcomes = await call_courier(self._couriers, message, places, job.route)
        finally:
            self._delivering.discard(task)
            self._counts.attempt(job.route, self._clock.monotonic() - began)
        if not all(isinstance(outcome, Deferred) for outcome in outcomes):
            self._schedule.taken(job)
        elif all(turned_away(outcome) for outcome in outcomes):
            if self._schedule.failed(job, self._clock.now().timestamp()):
                await self._window.step_back(job.route, self._start_due)
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
        elif is_changed or message.id in self._window.unsaved:
            await self._save(message)

    async def _make_report(self, message: QueuedMessage) -> bool:
        """Report what is owed; whether the state is another now."""
        now = self._clock.now().timestamp()
        state = message.state
        is_due = due_at(state.report_after, now, self._policy) <= now
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
            log.error("queue-not-removed", trace=message.id, error=str(failure))
            await self._save(message)  # who comes after us should know that it is done with
            due = self._clock.now().timestamp() + self._policy.minimum_wait_seconds
            self._schedule.put(message.id, CLOSING, frozenset(), due)
            return False
        self._window.forget(message.id)
        log.debug("queue-removed", trace=message.id, deleted=message.state.deleted)
        return True

    async def _save(self, message: QueuedMessage) -> None:
        try:
            await asyncio.to_thread(self._spool.save, message)
            self._window.unsaved.pop(message.id, None)
        except OSError as failure:
            # On a full disk memory is the better record: nobody gets the message twice while we run.
            self._window.unsaved[message.id] = message.state
            log.error("queue-state-not-saved", trace=message.id, error=str(failure))
