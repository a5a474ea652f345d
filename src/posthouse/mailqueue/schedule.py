"""The schedule: which message is attempted next, for which recipients, and when it is tried again.

Pure: times are seconds since the epoch and are passed in. A job is what is due together: one message's
recipients with one route. Jobs wait in a heap until they are due, then in their route's lane.

Invariants:
  1. A job is in exactly one place: waiting, in its lane, or running (and then it is the runner's).
  2. At most ``limit`` jobs run, and at most ``limit_per_route`` on one route.
  3. Lanes are served in turn: a route with a hundred thousand messages delays another route's by one job.
  4. Every operation is O(log n) in the number of jobs, amortised.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.courier import Route


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


@dataclass(slots=True, eq=False)
class Job:
    """One message's recipients (by their place in the envelope) with one route, due together."""

    message: str
    route: Route
    recipients: frozenset[int]
    due: float
    dropped: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    """The due jobs of one route."""

    route: Route
    jobs: deque[Job] = field(default_factory=deque[Job])
    running: int = 0
    paused_until: float = 0.0
    in_turn: bool = False


class Schedule:
    """All jobs that are known, in memory."""

    def __init__(self, *, limit: int, limit_per_route: int) -> None:
        self._limit = limit
        self._limit_per_route = limit_per_route
        self._jobs: dict[str, dict[Route, Job]] = {}
        self._waiting: list[tuple[float, int, Job]] = []
        self._pauses: list[tuple[float, int, _Lane]] = []
        self._sequence = 0
        self._lanes: dict[Route, _Lane] = {}
        self._turn: deque[_Lane] = deque()
        self._running = 0
        self._dropped = 0

    def put(self, message: str, route: Route, recipients: frozenset[int], due: float) -> None:
        """Add a job; one that waits for the same message and route is merged into it, due at the earlier time."""
        jobs = self._jobs.setdefault(message, {})
        waiting = jobs.get(route)
        if waiting is not None:
            self._cancel(waiting)
            recipients, due = recipients | waiting.recipients, min(due, waiting.due)
        job = jobs[route] = Job(message, route, recipients, due)
        heappush(self._waiting, (due, self._next_sequence(), job))

    def drop(self, message: str) -> None:
        """Forget the message's jobs; those that run are not stopped."""
        for job in self._jobs.pop(message, {}).values():
            self._cancel(job)

    def take(self, now: float) -> Job | None:
        """The next job to run, or None while none is due or a limit is reached. Ends with ``release``."""
        self._promote(now)
        while self._turn and self._running < self._limit:
            lane = self._turn.popleft()
            lane.in_turn = False
            job = self._front(lane)
            if job is None or lane.paused_until > now:
                self._tidy(lane)
                continue
            lane.jobs.popleft()
            jobs = self._jobs[job.message]
            del jobs[job.route]
            if not jobs:
                del self._jobs[job.message]
            lane.running += 1
            self._running += 1
            self._enter_turn(lane)
            return job
        return None

    def release(self, job: Job) -> None:
        """The job has run. What is still to be done for its recipients is ``put`` again."""
        lane = self._lanes[job.route]
        lane.running -= 1
        self._running -= 1
        self._enter_turn(lane)
        self._tidy(lane)

    def pause(self, route: Route, until: float) -> None:
        """Run nothing more on this route until then: its destination doesn't answer."""
        lane = self._lane(route)
        lane.paused_until = until
        heappush(self._pauses, (until, self._next_sequence(), lane))

    def resume(self, route: Route) -> None:
        """Forget a pause."""
        lane = self._lanes.get(route)
        if lane is not None:
            lane.paused_until = 0.0
            self._enter_turn(lane)
            self._tidy(lane)

    def next_event(self) -> float | None:
        """When ``take`` may next have something that it hasn't now, apart from releases; None: never."""
        while self._waiting and self._waiting[0][2].dropped:
            heappop(self._waiting)
        times = [heap[0][0] for heap in (self._waiting, self._pauses) if heap]
        return min(times, default=None)

    def _promote(self, now: float) -> None:
        """Put what has become due into its lane, and lanes whose pause is over back into their turn."""
        while self._waiting and self._waiting[0][0] <= now:
            job = heappop(self._waiting)[2]
            if not job.dropped:
                lane = self._lane(job.route)
                lane.jobs.append(job)
                self._enter_turn(lane)
        while self._pauses and self._pauses[0][0] <= now:
            lane = heappop(self._pauses)[2]
            if lane.paused_until <= now:
                lane.paused_until = 0.0
                self._enter_turn(lane)
                self._tidy(lane)

    def _cancel(self, job: Job) -> None:
        """Leave a job where it is, to be skipped; clear the heap once such jobs could be most of it."""
        job.dropped = True
        self._dropped += 1
        if self._dropped > 64 + len(self._waiting) // 2:
            self._waiting = [entry for entry in self._waiting if not entry[2].dropped]
            heapify(self._waiting)
            self._dropped = 0

    def _lane(self, route: Route) -> _Lane:
        lane = self._lanes.get(route)
        if lane is None:
            lane = self._lanes[route] = _Lane(route)
        return lane

    def _front(self, lane: _Lane) -> Job | None:
        while lane.jobs and lane.jobs[0].dropped:
            lane.jobs.popleft()
        return lane.jobs[0] if lane.jobs else None

    def _enter_turn(self, lane: _Lane) -> None:
        if not lane.in_turn and not lane.paused_until and lane.running < self._limit_per_route and self._front(lane):
            lane.in_turn = True
            self._turn.append(lane)

    def _tidy(self, lane: _Lane) -> None:
        """Forget a lane that holds nothing."""
        idle = not (lane.jobs or lane.running or lane.paused_until or lane.in_turn)
        # An old pause may still know a lane that has long been forgotten and made anew.
        if idle and self._lanes.get(lane.route) is lane:
            del self._lanes[lane.route]

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence
