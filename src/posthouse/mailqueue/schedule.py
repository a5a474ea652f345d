"""The schedule: which message is attempted next, for which recipients, and when it is tried again.

Pure: times are seconds since the epoch and are passed in. A job is what is due together: one message's
recipients with one route. Jobs wait in a heap until they are due, then in their route's lane, where every owner
(the login that submitted the message, or else its sender) has a line of their own.

Invariants:
  1. A job is in exactly one place: waiting, in its lane, or running (and then it is the runner's).
  2. At most ``connections`` jobs run, and on one route no more than its window has room for (``feedback``).
  3. Lanes are served in turn, and in a lane its owners: a hundred thousand messages to one route, or from one
     sender, delay another's by one job.
  4. The last quarter of the connections is for routes that have none: destinations that take long don't stop others.
  5. Every operation is O(log n) in the number of jobs, amortised; ``take`` also passes over busy lanes.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TypeVar

from posthouse.config.destinations import Destination, rules_for
from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.courier import Route
from posthouse.mailqueue.feedback import INITIAL_WINDOW, Feedback

_Key = TypeVar("_Key")
REMEMBERED = 10_000
"""Destinations of which is known how they fare, besides those that have jobs; the longest unused is forgotten."""
WINDOW = 10_000
"""About how many jobs are to be known at a time; the rest waits elsewhere."""


def next_attempt(first: float, last: float, attempts: int, policy: QueuePolicy) -> float | None:
    """When to try again, or None when it is time to give up.

    Waits double from ``minimum_wait_seconds`` up to ``maximum_wait_seconds``; the last attempt is made when the
    message is ``lifetime_seconds`` old. ``first`` is when it arrived, ``last`` when attempt number ``attempts``
    was made. RFC 5321 §4.5.4.1.
    """
    end = first + policy.lifetime_seconds
    if last >= end:
        return None
    # Past 2^32 any sane minimum is beyond any sane maximum.
    wait = min(policy.minimum_wait_seconds * 2 ** min(max(attempts - 1, 0), 32), policy.maximum_wait_seconds)
    return min(last + wait, end)


def due_at(planned: float, now: float, policy: QueuePolicy) -> float:
    """When an attempt is due that was planned by what may have been another clock: none is planned that far ahead."""
    return planned if planned <= now + policy.maximum_wait_seconds else 0.0


@dataclass(slots=True, eq=False)
class Job:
    """One message's recipients (by their place in the envelope) with one route, due together.

    ``epoch``: the route's when it began to run.
    """

    message: str
    route: Route
    recipients: frozenset[int]
    due: float
    owner: str = ""
    epoch: int = 0
    dropped: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    """The due jobs of one route, a line for each owner. ``turn``: owners that have a line, the next one first."""

    route: Route
    lines: dict[str, deque[Job]] = field(default_factory=dict[str, deque[Job]])
    turn: deque[str] = field(default_factory=deque[str])
    running: int = 0
    in_turn: bool = False

    def append(self, job: Job) -> None:
        line = self.lines.get(job.owner)
        if line is None:
            line = self.lines[job.owner] = deque()
            self.turn.append(job.owner)
        line.append(job)

    def front(self) -> Job | None:
        """The next job; it stays."""
        while self.turn:
            line = self.lines[self.turn[0]]
            while line and line[0].dropped:
                line.popleft()
            if line:
                return line[0]
            del self.lines[self.turn.popleft()]
        return None

    def pop(self) -> None:
        """Remove what ``front`` said; its owner is served again after the others."""
        self.lines[self.turn[0]].popleft()
        self.turn.rotate(-1)


class Schedule:
    """The jobs that are known, in memory, and how destinations fare."""

    def __init__(
        self, policy: QueuePolicy, *, window: int = 0, destinations: Mapping[str, Destination] | None = None
    ) -> None:
        """``window``: other than ``WINDOW``. ``destinations``: those that have limits of their own."""
        self._policy = policy
        self._destinations = destinations or {}
        self._window = window or WINDOW
        self._reserve = policy.connections // 4
        self._jobs: dict[str, dict[Route, Job]] = {}
        self._count = 0
        self._of_route: dict[Route, int] = {}
        self._of_owner: dict[tuple[Route, str], int] = {}
        self._waiting: list[tuple[float, int, Job]] = []
        self._pauses: list[tuple[float, int, Route]] = []
        self._sequence = 0
        self._lanes: dict[Route, _Lane] = {}
        self._turn: deque[_Lane] = deque()
        self._feedback: dict[Route, Feedback] = {}
        self._running = 0
        self._dropped = 0

    def put(self, message: str, route: Route, recipients: frozenset[int], due: float, owner: str = "") -> None:
        """Add a job; one that waits for the same message and route is merged into it, due at the earlier time."""
        jobs = self._jobs.setdefault(message, {})
        waiting = jobs.get(route)
        if waiting is not None:
            self._cancel(waiting)
            recipients, due, owner = recipients | waiting.recipients, min(due, waiting.due), waiting.owner
        job = jobs[route] = Job(message, route, recipients, due, owner)
        self._tally(job, 1)
        heappush(self._waiting, (due, self._next_sequence(), job))

    def drop(self, message: str) -> None:
        """Forget the message's jobs; those that run are not stopped."""
        for job in self._jobs.pop(message, {}).values():
            self._cancel(job)

    def take(self, now: float) -> Job | None:
        """The next job to run, or None while none is due or a limit is reached. Ends with ``release``."""
        self._promote(now)
        for _ in range(len(self._turn)):
            if self._running >= self._policy.connections:
                break
            lane = self._turn.popleft()
            lane.in_turn = False
            job = lane.front()
            if job is None or self._free_at(lane.route) > now:
                self._tidy(lane)
            elif lane.running and self._running >= self._policy.connections - self._reserve:
                self._enter_turn(lane)
            else:
                self._start(lane, job, now)
                return job
        return None

    def release(self, job: Job) -> None:
        """The job has run. What is still to be done for its recipients is ``put`` again."""
        lane = self._lanes[job.route]
        lane.running -= 1
        self._running -= 1
        self._enter_turn(lane)
        self._tidy(lane)

    # What became of it.

    def taken(self, job: Job) -> None:
        """The destination took the message, or refused it for good."""
        self._feedback_of(job.route).taken(self._limit(job.route))
        self._free(job.route)

    def resume(self, route: Route) -> None:
        """The destination answers, or is to be tried in spite of a pause."""
        self._feedback_of(route).answered()
        self._free(route)

    def failed(self, job: Job, now: float) -> bool:
        """The destination doesn't answer, or turns us away (421); whether it is left alone from now on."""
        feedback = self._feedback_of(job.route)
        policy = self._policy
        if not feedback.failed(job.epoch, now, policy.minimum_wait_seconds, policy.maximum_wait_seconds):
            return False
        heappush(self._pauses, (feedback.paused_until, self._next_sequence(), job.route))
        return True

    def shift(self, seconds: float) -> None:
        """The clock was set by so much: what waits goes on waiting for as long as it would have."""
        for jobs in self._jobs.values():
            for job in jobs.values():
                job.due += seconds
        self._waiting = [(due + seconds, number, job) for due, number, job in self._waiting]
        self._pauses = [(due + seconds, number, route) for due, number, route in self._pauses]
        for feedback in self._feedback.values():
            feedback.shift(seconds)

    # What is known.

    def paused_until(self, route: Route) -> float:
        """Until when the destination is left alone; 0: it is not."""
        feedback = self._feedback.get(route)
        return feedback.paused_until if feedback else 0.0

    def has_room(self, route: Route, owner: str) -> bool:
        """Whether one more job is to be known: nobody's backlog takes the place of others' mail.

        Of the window an owner may have a twentieth on one route, all of them together a fifth. Beyond the window a
        route may have as much as it can do at once, up to twice the window in all.
        """
        of_route, share = self._of_route.get(route, 0), self._window // 20
        if self._count < self._window:
            return of_route < 4 * share and self._of_owner.get((route, owner), 0) < share
        return self._count < 2 * self._window and of_route < self._limit(route)

    def full(self) -> tuple[list[Route], list[tuple[Route, str]]]:
        """Routes, and owners on routes, that have half of what they may have, or more."""
        share = self._window // 20
        most = 2 * share if self._count < self._window else 0
        owners = [pair for pair, count in self._of_owner.items() if 2 * count >= share]
        counts = self._of_route.items()
        routes = [route for route, count in counts if count >= (most or max(self._limit(route) // 2, 1))]
        return routes, owners

    @property
    def room(self) -> int:
        """How many more jobs the window has place for."""
        return max(self._window - self._count, 0)

    def messages(self, route: Route) -> list[str]:
        """Whose due jobs wait on this route."""
        lane = self._lanes.get(route)
        lines = lane.lines.values() if lane else ()
        return [job.message for line in lines for job in line if not job.dropped]

    def jobs(self, message: str) -> list[Job]:
        """The message's jobs that don't run yet."""
        return list(self._jobs.get(message, {}).values())

    def next_event(self) -> float | None:
        """When ``take`` may next have something that it hasn't now, apart from releases; None: never."""
        while self._waiting and self._waiting[0][2].dropped:
            heappop(self._waiting)
        times = [heap[0][0] for heap in (self._waiting, self._pauses) if heap]
        return min(times, default=None)

    # Inside.

    def _promote(self, now: float) -> None:
        """Put what has become due into its lane, and lanes whose pause is over back into their turn."""
        while self._waiting and self._waiting[0][0] <= now:
            job = heappop(self._waiting)[2]
            if not job.dropped:
                lane = self._lane(job.route)
                lane.append(job)
                self._enter_turn(lane)
        while self._pauses and self._pauses[0][0] <= now:
            route = heappop(self._pauses)[2]
            feedback = self._feedback.get(route)
            if feedback and feedback.paused_until <= now:
                feedback.paused_until = 0.0
            if feedback is None or feedback.free_at() <= now:
                self._free(route)

    def _start(self, lane: _Lane, job: Job, now: float) -> None:
        lane.pop()
        jobs = self._jobs[job.message]
        del jobs[job.route]
        if not jobs:
            del self._jobs[job.message]
        self._tally(job, -1)
        lane.running += 1
        self._running += 1
        if _is_elsewhere(job.route):
            feedback = self._feedback_of(job.route)
            job.epoch = feedback.epoch
            rate = self._of(job.route).messages_per_minute or self._policy.messages_per_minute
            feedback.started(now, rate)
            if feedback.not_before > now:
                heappush(self._pauses, (feedback.not_before, self._next_sequence(), job.route))
        self._enter_turn(lane)

    def _cancel(self, job: Job) -> None:
        """Leave a job where it is, to be skipped; clear the heap once such jobs could be most of it."""
        job.dropped = True
        self._tally(job, -1)
        self._dropped += 1
        if self._dropped > 64 + len(self._waiting) // 2:
            self._waiting = [entry for entry in self._waiting if not entry[2].dropped]
            heapify(self._waiting)
            self._dropped = 0

    def _tally(self, job: Job, change: int) -> None:
        self._count += change
        _add(self._of_route, job.route, change)
        _add(self._of_owner, (job.route, job.owner), change)

    def _lane(self, route: Route) -> _Lane:
        lane = self._lanes.get(route)
        if lane is None:
            lane = self._lanes[route] = _Lane(route)
        return lane

    def _feedback_of(self, route: Route) -> Feedback:
        """What is known of the route, which is used now."""
        feedback = self._feedback.pop(route, None)
        if feedback is None:
            feedback = Feedback(min(INITIAL_WINDOW, float(self._limit(route))))
            if len(self._feedback) >= REMEMBERED:
                self._forget_one()
        self._feedback[route] = feedback
        return feedback

    def _forget_one(self) -> None:
        """The longest unused without jobs; of a few, so that this stays cheap."""
        for _ in range(100):
            route = next(iter(self._feedback))
            feedback = self._feedback.pop(route)
            if route not in self._lanes:
                return
            self._feedback[route] = feedback

    def _free_at(self, route: Route) -> float:
        feedback = self._feedback.get(route)
        return feedback.free_at() if feedback else 0.0

    def _of(self, route: Route) -> Destination:
        return rules_for(route.destination, self._destinations)

    def _limit(self, route: Route) -> int:
        return self._of(route).connections or self._policy.connections_per_destination

    def _at_once(self, route: Route) -> int:
        limit = self._limit(route)
        if not _is_elsewhere(route):
            return limit
        feedback = self._feedback.get(route)
        return feedback.at_once if feedback else min(int(INITIAL_WINDOW), limit)

    def _free(self, route: Route) -> None:
        lane = self._lanes.get(route)
        if lane is not None:
            self._enter_turn(lane)
            self._tidy(lane)

    def _enter_turn(self, lane: _Lane) -> None:
        """Lanes that are paused, or too fast, come back when ``_pauses`` says so: ``take`` passes them over."""
        if not lane.in_turn and lane.running < self._at_once(lane.route) and lane.front():
            lane.in_turn = True
            self._turn.append(lane)

    def _tidy(self, lane: _Lane) -> None:
        """Forget a lane that holds nothing."""
        if not (lane.turn or lane.running or lane.in_turn):
            del self._lanes[lane.route]

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence


def _is_elsewhere(route: Route) -> bool:
    """Whether it leads to a host that may be slow, or away, or have enough of us."""
    return bool(route.courier and route.destination)


def _add(counts: dict[_Key, int], key: _Key, change: int) -> None:
    """Count; what is at zero is not kept."""
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        del counts[key]
