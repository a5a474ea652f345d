"""mailqueue/schedule.py"""

from heapq import heappop, heappush

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from posthouse.config.destinations import Destination
from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.courier import Route
from posthouse.mailqueue.schedule import REMEMBERED, Job, Schedule, next_attempt

POLICY = QueuePolicy(minimum_wait_seconds=300, maximum_wait_seconds=4000, lifetime_seconds=432_000)
A, B = Route("smtp", "a.example"), Route("smtp", "b.example")
ONE = frozenset({0})


def schedule(limit: int = 100, limit_per_route: int = 20, window: int = 10_000, **policy: int) -> Schedule:
    plan = QueuePolicy(connections=limit, connections_per_destination=limit_per_route, **policy)
    return Schedule(plan, window=window)


def silence(plan: Schedule, route: Route, now: float) -> None:
    """Somebody finds out that the destination does not answer."""
    plan.put("finds out", route, ONE, now)
    job = plan.take(now)
    assert job is not None
    assert job.route == route
    assert plan.failed(job, now)
    plan.release(job)


def take_all(plan: Schedule, now: float) -> list[Job]:
    jobs: list[Job] = []
    while (job := plan.take(now)) is not None:
        jobs.append(job)
    return jobs


def test_waits_double_from_the_minimum_to_the_maximum():
    """RFC 5321 §4.5.4.1"""
    waits = [(next_attempt(0, 1000, attempts, POLICY) or 0) - 1000 for attempts in range(1, 8)]
    assert waits == [300, 600, 1200, 2400, 4000, 4000, 4000]


def test_the_last_attempt_is_made_at_the_end_of_the_lifetime_and_then_it_is_given_up():
    assert next_attempt(0, 431_000, 100, POLICY) == 432_000
    assert next_attempt(0, 432_000, 101, POLICY) is None


@given(
    last=st.floats(0, 1e9),
    attempts=st.integers(0, 10**9),
    minimum=st.integers(0, 10**6),
    maximum=st.integers(0, 10**6),
    lifetime=st.integers(0, 10**7),
)
@settings(max_examples=100, deadline=None)
def test_the_next_attempt_is_never_in_the_past_nor_after_the_lifetime(last, attempts, minimum, maximum, lifetime):
    policy = QueuePolicy(minimum_wait_seconds=minimum, maximum_wait_seconds=maximum, lifetime_seconds=lifetime)
    again = next_attempt(0, last, attempts, policy)
    assert again is None if last >= lifetime else again is not None and last <= again <= lifetime


def test_a_job_is_not_taken_before_it_is_due():
    plan = schedule()
    plan.put("m", A, ONE, 10)
    assert plan.take(9.9) is None
    assert plan.next_event() == 10
    job = plan.take(10)
    assert job is not None
    assert (job.message, job.route, job.recipients) == ("m", A, ONE)
    assert plan.next_event() is None


def test_a_route_with_many_messages_does_not_starve_another():
    plan = schedule(limit=1)
    for number in range(1000):
        plan.put(f"a{number}", A, ONE, 0)
    plan.put("b", B, ONE, 1)
    taken: list[str] = []
    for _ in range(3):
        job = plan.take(1)
        assert job is not None
        taken.append(job.message)
        plan.release(job)
    assert "b" in taken[:2]


def test_jobs_of_one_route_are_taken_in_the_order_in_which_they_became_due():
    plan = schedule()
    for due in (3, 1, 2):
        plan.put(f"m{due}", A, ONE, due)
    assert [job.message for job in take_all(plan, 5)] == ["m1", "m2", "m3"]


def test_limits_in_all_and_for_one_route_hold():
    plan = schedule(limit=3, limit_per_route=2)
    for number in range(5):
        plan.put(f"a{number}", A, ONE, 0)
        plan.put(f"b{number}", B, ONE, 0)
    running = take_all(plan, 0)
    assert sorted(job.route.destination for job in running) in (
        ["a.example", "a.example", "b.example"],
        ["a.example", "b.example", "b.example"],
    )
    plan.release(running[0])
    assert len(take_all(plan, 0)) == 1


def test_a_paused_route_waits_and_the_others_go_on():
    plan = schedule(minimum_wait_seconds=100)
    silence(plan, A, 0)
    plan.put("a", A, ONE, 0)
    plan.put("b", B, ONE, 0)
    assert [job.message for job in take_all(plan, 50)] == ["b"]
    assert plan.next_event() == 100
    assert [job.message for job in take_all(plan, 100)] == ["a"]


def test_a_resumed_route_goes_on_at_once():
    plan = schedule()
    silence(plan, A, 0)
    plan.put("a", A, ONE, 0)
    assert plan.take(1) is None
    plan.resume(A)
    assert [job.message for job in take_all(plan, 2)] == ["a"]


def test_an_outdated_pause_does_not_forget_the_route_that_came_after_it():
    plan = schedule(limit_per_route=1, minimum_wait_seconds=100)
    silence(plan, A, 0)
    plan.resume(A)
    plan.put("first", A, ONE, 0)
    job = plan.take(1)
    assert job is not None
    plan.put("second", A, ONE, 0)
    assert plan.take(200) is None
    plan.release(job)
    assert [job.message for job in take_all(plan, 200)] == ["second"]


def test_putting_the_same_message_and_route_again_merges():
    plan = schedule()
    plan.put("m", A, frozenset({0}), 50)
    plan.put("m", A, frozenset({1}), 20)
    (job,) = take_all(plan, 20)
    assert job.recipients == {0, 1}
    assert take_all(plan, 100) == []


def test_a_dropped_message_is_not_taken():
    plan = schedule()
    plan.put("m", A, ONE, 0)
    plan.put("m", B, ONE, 0)
    plan.put("n", A, ONE, 0)
    plan.drop("m")
    assert [job.message for job in take_all(plan, 1)] == ["n"]


def test_memory_does_not_grow_with_what_was_dropped():
    plan = schedule()
    for number in range(10_000):
        plan.put("m", A, ONE, 1_000 + number)
    assert len(plan._waiting) < 500


def simulate(plan: Schedule, seconds: float, takes: dict[Route, float]) -> dict[str, float]:
    """When each message was done, where each of a route's takes so long; until then or until nothing is left."""
    now, done, running = 0.0, {}, []
    while now < seconds:
        while (job := plan.take(now)) is not None:
            heappush(running, (now + takes[job.route], id(job), job))
        if not running:
            break
        now, _, job = heappop(running)
        plan.taken(job)
        plan.release(job)
        done[job.message] = now
    return done


def test_a_hundred_thousand_messages_to_a_slow_destination_do_not_delay_another():
    plan = schedule(window=10**9)
    for number in range(100_000):
        plan.put(f"a{number}", A, ONE, 0, "bulk@example.test")
    for number in range(100):
        plan.put(f"b{number}", B, ONE, 0, "alice@example.test")
    done = simulate(plan, 100, {A: 30.0, B: 0.1})
    assert max(when for message, when in done.items() if message.startswith("b")) < 3


def test_a_burst_of_one_sender_does_not_delay_anothers_message_to_the_same_destination():
    plan = schedule(window=10**9)
    for number in range(10_000):
        plan.put(f"a{number}", A, ONE, 0, "bulk@example.test")
    assert len(take_all(plan, 0)) == 5
    plan.put("b", A, ONE, 0, "alice@example.test")
    plan = schedule(limit_per_route=1, window=10**9)
    for number in range(10_000):
        plan.put(f"a{number}", A, ONE, 0, "bulk@example.test")
    plan.put("b", A, ONE, 1, "alice@example.test")
    done = simulate(plan, 20, {A: 1.0})
    assert done["b"] <= 3


def test_destinations_that_hang_leave_connections_for_those_that_have_none():
    plan = schedule(limit=40)
    for number in range(100):
        for message in range(50):
            plan.put(f"m{number} {message}", Route("smtp", f"hangs{number % 10}.example"), ONE, 0)
    assert len(take_all(plan, 0)) == 30
    plan.put("b", B, ONE, 1)
    assert [job.message for job in take_all(plan, 1)] == ["b"]


def test_a_destination_has_more_connections_while_it_takes_what_it_gets():
    plan = schedule()
    for number in range(1000):
        plan.put(f"m{number}", A, ONE, 0)
    sizes = []
    for _ in range(20):
        jobs = take_all(plan, 0)
        sizes.append(len(jobs))
        for job in jobs:
            plan.taken(job)
            plan.release(job)
    assert sizes[:3] == [5, 5, 6]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 20


def test_a_destination_that_turns_some_away_gets_half_and_is_not_paused():
    plan = schedule()
    for number in range(100):
        plan.put(f"m{number}", A, ONE, 0)
    jobs = take_all(plan, 0)
    plan.taken(jobs[0])
    # Three of those that were under way together are one piece of news.
    assert not any(plan.failed(job, 0) for job in jobs[1:4])
    for job in jobs:
        plan.release(job)
    assert len(take_all(plan, 0)) == 2


def test_pauses_grow_until_the_destination_answers_and_one_message_tries():
    plan = schedule(minimum_wait_seconds=300, maximum_wait_seconds=1000)
    for number in range(100):
        plan.put(f"m{number}", A, ONE, 0)
    now, waits = 0.0, []
    for _ in range(5):
        jobs = take_all(plan, now)
        for job in jobs:
            plan.failed(job, now)
            plan.release(job)
        waits.append((len(jobs), plan.paused_until(A) - now))
        now = plan.paused_until(A)
    assert waits == [(5, 300), (1, 600), (1, 1000), (1, 1000), (1, 1000)]
    (job,) = take_all(plan, now)
    plan.taken(job)
    plan.release(job)
    assert len(take_all(plan, now)) == 2


def test_a_rate_spreads_the_messages_to_a_destination_and_leaves_this_host_alone():
    plan = schedule(messages_per_minute=30)
    here = Route("local", "")
    for number in range(10):
        plan.put(f"a{number}", A, ONE, 0)
        plan.put(f"h{number}", here, ONE, 0)
    taken = take_all(plan, 100)
    assert sorted(job.message for job in taken) == ["a0", *[f"h{number}" for number in range(10)]]
    assert plan.next_event() == 102
    assert [job.message for job in take_all(plan, 102)] == ["a1"]
    assert take_all(plan, 103.9) == []


def test_a_destination_with_limits_of_its_own_is_held_to_them_and_no_other_is():
    rules = {"a.example": Destination(connections=1), "[mx.b.example]:26": Destination(messages_per_minute=60)}
    plan = Schedule(QueuePolicy(), destinations=rules)
    slow, paced = Route("smtp", "A.example"), Route("smtp", "user@[mx.b.example]:26")
    for number in range(3):
        plan.put(f"a{number}", slow, ONE, 0)
        plan.put(f"b{number}", paced, ONE, 0)
        plan.put(f"c{number}", Route("smtp", "c.example"), ONE, 0)
    assert sorted(job.message for job in take_all(plan, 100)) == ["a0", "b0", "c0", "c1", "c2"]
    assert [job.message for job in take_all(plan, 101)] == ["b1"]


def test_a_backlog_does_not_take_the_place_of_others():
    plan = schedule(window=1000)
    known = 0
    while plan.has_room(A, "bulk"):
        plan.put(f"a{known}", A, ONE, 0, "bulk")
        known += 1
    assert known == 50
    assert plan.full() == ([], [(A, "bulk")])
    assert plan.has_room(A, "alice")
    assert plan.has_room(B, "bulk")
    for number in range(200):
        if plan.has_room(A, f"x{number}"):
            plan.put(f"x{number}", A, ONE, 0, f"x{number}")
            known += 1
    assert known == 200
    assert plan.full()[0] == [A]


def test_what_is_known_of_destinations_is_bounded():
    plan = schedule()
    for number in range(REMEMBERED + 100):
        silence(plan, Route("smtp", f"d{number}.example"), 0)
    assert len(plan._feedback) == REMEMBERED
    assert plan._lanes == {}


class AgainstAModel(RuleBasedStateMachine):
    """Whatever happens, limits hold, nothing is lost, nothing is taken twice or early."""

    LIMIT, PER_ROUTE, RESERVE = 8, 3, 2
    names = st.sampled_from(["m1", "m2", "m3", "m4", "m5"])
    routes = st.sampled_from([Route("smtp", name) for name in "xyz"])
    owners = st.sampled_from("pq")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.plan = schedule(self.LIMIT, self.PER_ROUTE, minimum_wait_seconds=7, maximum_wait_seconds=20)
        self.waiting: dict[tuple[str, Route], tuple[float, frozenset[int]]] = {}
        self.running: list[Job] = []

    @rule(name=names, route=routes, owner=owners, delay=st.integers(-5, 20), place=st.integers(0, 3))
    def put(self, name: str, route: Route, owner: str, delay: int, place: int) -> None:
        due, places = self.now + delay, frozenset({place})
        self.plan.put(name, route, places, due, owner)
        old = self.waiting.get((name, route))
        self.waiting[name, route] = (min(due, old[0]), places | old[1]) if old else (due, places)

    @rule(name=names)
    def drop(self, name: str) -> None:
        self.plan.drop(name)
        self.waiting = {key: value for key, value in self.waiting.items() if key[0] != name}

    @rule(seconds=st.integers(0, 15))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(route=routes)
    def resume(self, route: Route) -> None:
        self.plan.resume(route)
        assert self.plan.paused_until(route) == 0

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["taken", "failed", "later"]))
    def release(self, data: st.DataObject, outcome: str) -> None:
        job = data.draw(st.sampled_from(self.running))
        self.running.remove(job)
        if outcome == "taken":
            self.plan.taken(job)
        elif outcome == "failed":
            self.plan.failed(job, self.now)
        self.plan.release(job)

    @rule()
    def take(self) -> None:
        job = self.plan.take(self.now)
        if job is None:
            assert not any(self.may_run(route, due, least=1) for (_, route), (due, _) in self.waiting.items())
            return
        due, places = self.waiting.pop((job.message, job.route))
        assert self.may_run(job.route, due, least=self.PER_ROUTE)
        assert job.recipients == places
        self.running.append(job)

    def may_run(self, route: Route, due: float, *, least: int) -> bool:
        """Where ``least`` jobs at once are the route's to have."""
        on_route = sum(job.route == route for job in self.running)
        limit = self.LIMIT - (self.RESERVE if on_route else 0)
        is_free = len(self.running) < limit and on_route < least
        return is_free and due <= self.now and self.plan.paused_until(route) <= self.now

    @invariant()
    def next_event_is_not_after_the_first_due(self) -> None:
        future = [due for due, _ in self.waiting.values() if due > self.now]
        event = self.plan.next_event()
        assert not future or (event is not None and event <= min(future))


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
