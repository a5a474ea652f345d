"""mailqueue/runner.py: a real spool and journal, a clock that stands still, couriers that do as they are told."""

import asyncio
import os
from contextlib import contextmanager

import pytest

from posthouse.base.clock import FakeClock, SteadyClock
from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.settings import QueuePolicy
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.mailqueue import schedule
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Route
from posthouse.mailqueue.index import census
from posthouse.mailqueue.runner import Runner
from posthouse.mailqueue.spool import BusyError, Spool
from posthouse.mailqueue.state import HISTORY_LIMIT
from posthouse.message.envelope import Envelope, Recipient
from posthouse.runtime.watch import Watch

OK = Reply(250, "2.0.0", "ok")
LATER = Reply(450, "4.2.1", "greylisted")
NEVER = Reply(550, "5.1.1", "no such user")
POLICY = QueuePolicy(minimum_wait_seconds=300, maximum_wait_seconds=4000, lifetime_seconds=86_400)
TEXT = b"Subject: hi\r\n\r\nbody\r\n"


class World:
    """A queue with everything around it; ``answers`` says what becomes of each address."""

    def __init__(self, directory):
        self.spool = Spool(os.path.join(directory, "queue"))
        self.spool.prepare()
        self.journal = Journal(os.path.join(directory, "journal"))
        self.journal.start()
        self.clock = FakeClock()
        self.answers = {}
        self.attempts = []
        self.reports = []
        self.report_error = None
        self.routes = {}
        self.asked = 0
        self.runner = self.new_runner()

    def new_runner(self, watch=None):
        self.runner = Runner(
            self.spool, self.journal, watch, POLICY, self.clock, self.route, {"smtp": self}, self.report
        )
        return self.runner

    def run(self):
        asyncio.run(self.runner.run_once())

    def later(self, seconds=300):
        self.clock.advance(seconds)
        self.run()

    def enqueue(self, *recipients, sender="alice@example.test", trace_id="m1"):
        recipients = tuple(Recipient(one) if isinstance(one, str) else one for one in recipients)
        envelope = Envelope(sender, recipients, trace_id)
        put = self.spool.plan(envelope, header_prefix=b"", now=self.clock.now(), content_size=len(TEXT))
        self.journal.commit_blocking(Content.of(TEXT), [put])

    @contextmanager
    def changing(self, name="m1"):
        with self.spool.claim(name) as claim:
            yield claim.message.state
            self.spool.save(claim.message)
        self.spool.wake(name)

    def state(self, name="m1"):
        return self.spool.load(name).state

    def left(self):
        return sorted(self.spool.names())

    async def route(self, address, _sender):
        self.asked += 1
        route = self.routes.get(address, Route("smtp", address.partition("@")[2]))
        if isinstance(route, Exception):
            raise route
        return route

    async def deliver(self, message, recipients, destination):
        with message.open() as file:
            assert file.read() == TEXT
        self.attempts.append((destination, [recipient.address for recipient in recipients]))
        answer = [self.answers.get(recipient.address, Delivered(OK, "mx.example")) for recipient in recipients]
        for one in answer:
            if isinstance(one, Exception):
                raise one
            if isinstance(one, asyncio.Event):
                await one.wait()
        return [Delivered(OK, "mx.example") if isinstance(one, asyncio.Event) else one for one in answer]

    async def report(self, message, places):
        if self.report_error is not None:
            raise self.report_error
        assert self.spool.load(message.id) is not None
        self.reports.append(
            [(message.envelope.recipients[place].address, message.state.recipients[place].owed) for place in places]
        )


@pytest.fixture
def world(tmp_path):
    world = World(str(tmp_path))
    yield world
    world.journal.close()


def test_a_delivered_message_leaves_the_queue(world):
    world.enqueue("bob@a.example")
    world.run()
    assert world.attempts == [("a.example", ["bob@a.example"])]
    assert world.left() == []
    assert world.reports == []


def test_recipients_of_one_destination_go_together(world):
    world.enqueue("a@a.example", "b@b.example", "c@a.example")
    world.run()
    assert sorted(world.attempts) == [("a.example", ["a@a.example", "c@a.example"]), ("b.example", ["b@b.example"])]


def test_only_the_deferred_recipient_is_tried_again_and_waits_longer_each_time(world):
    world.answers["late@a.example"] = Deferred(LATER, "mx.example")
    world.enqueue("late@a.example", "bob@a.example")
    world.run()
    assert world.left() == ["m1"]
    world.attempts.clear()
    for wait in (300, 600, 1200):
        world.later(wait - 1)
        assert world.attempts == []
        world.later(1)
        assert world.attempts == [("a.example", ["late@a.example"])]
        world.attempts.clear()
    del world.answers["late@a.example"]
    world.later(2400)
    assert world.left() == []


def test_the_reply_is_remembered(world):
    world.answers["late@a.example"] = Deferred(LATER, "mx.example")
    world.enqueue("late@a.example")
    world.run()
    state = world.state().recipients[0]
    assert (state.attempts, state.reply, state.remote) == (1, LATER, "mx.example")


def test_a_refused_recipient_is_reported_once_and_done(world):
    world.answers["no@a.example"] = Failed(NEVER, "mx.example")
    world.enqueue("no@a.example", "bob@a.example")
    world.run()
    assert world.reports == [[("no@a.example", "failed")]]
    assert world.left() == []


def test_failures_at_several_destinations_make_one_report(world):
    world.answers |= {"no@a.example": Failed(NEVER), "no@b.example": Failed(NEVER)}
    world.enqueue("no@a.example", "no@b.example")
    world.run()
    assert [address for report in world.reports for address, _ in sorted(report)] == ["no@a.example", "no@b.example"]
    assert len(world.reports) == 1


def test_a_report_on_one_recipient_does_not_wait_for_another_that_is_deferred(world):
    world.answers |= {"no@a.example": Failed(NEVER), "late@b.example": Deferred(LATER)}
    world.enqueue("no@a.example", "late@b.example")
    world.run()
    assert world.reports == [[("no@a.example", "failed")]]
    world.later()
    assert len(world.reports) == 1


def test_a_report_that_fails_is_for_the_postmaster_and_one_to_the_postmaster_for_nobody(world):
    """RFC 5321 §6.1: never to a sender."""
    world.answers |= dict.fromkeys(["no@a.example", "postmaster@a.example", "admin@a.example"], Failed(NEVER))
    world.enqueue("no@a.example", sender="")
    world.enqueue("postmaster@a.example", sender="", trace_id="m2")
    world.enqueue(Recipient("admin@a.example", original="Postmaster@b.example"), sender="", trace_id="m3")
    world.run()
    assert world.reports == [[("no@a.example", "failed")]]
    assert world.left() == []


def test_the_history_of_a_recipient_keeps_the_first_and_the_latest_attempts(world):
    world.enqueue("late@a.example")
    first = world.clock.now().timestamp()
    for number in range(22):
        world.answers["late@a.example"] = Deferred(LATER, ("mx.a.example", "mx.b.example")[number % 2])
        world.later(4000 if number else 0)
    history = world.state().recipients[0].history
    assert len(history) == HISTORY_LIMIT
    assert (history[0].at, history[0].result, history[0].remote) == (first, "deferred", "mx.a.example")
    assert history[-1].at == world.state().recipients[0].last_attempt
    assert history[-1].reply == LATER


def test_attempts_that_had_the_same_outcome_are_one_entry_of_the_history(world):
    """All of five days can be seen then, in a state that stays small."""
    world.enqueue("late@a.example")
    first = world.clock.now().timestamp()
    for number in range(20):
        world.answers["late@a.example"] = Deferred(
            LATER if number < 15 else Reply(450, "4.2.2", "full"), "mx.a.example"
        )
        world.later(4000 if number else 0)
    early, late = world.state().recipients[0].history
    assert (early.at, early.times, early.until, early.reply) == (first, 15, first + 14 * 4000, LATER)
    assert (late.at, late.times, late.until) == (first + 15 * 4000, 5, first + 19 * 4000)


def test_a_report_that_cannot_be_made_is_owed_until_it_can(world):
    world.answers["no@a.example"] = Failed(NEVER)
    world.report_error = OSError("disk full")
    world.enqueue("no@a.example")
    world.run()
    assert world.left() == ["m1"]
    assert world.state().recipients[0].owed == "failed"
    world.report_error = None
    world.new_runner()
    world.later()
    assert world.attempts == [("a.example", ["no@a.example"])]
    assert world.reports == [[("no@a.example", "failed")]]
    assert world.left() == []


@pytest.mark.parametrize(
    ("notify", "outcome", "reports"),
    [
        ({"NEVER"}, Failed(NEVER), []),
        ({"SUCCESS"}, Failed(NEVER), []),
        ({"FAILURE"}, Failed(NEVER), ["failed"]),
        ({"SUCCESS"}, Delivered(OK, "mx.example"), ["relayed"]),
        ({"SUCCESS"}, Delivered(OK, "mx.example", dsn_passed_on=True), []),
        ({"SUCCESS"}, Delivered(OK), ["delivered"]),
        ({"FAILURE"}, Delivered(OK, "mx.example"), []),
    ],
)
def test_reports_follow_notify(world, notify, outcome, reports):
    """RFC 3461 §5.2"""
    world.answers["bob@a.example"] = outcome
    world.enqueue(Recipient("bob@a.example", notify=frozenset(notify)))
    world.run()
    assert [owed for report in world.reports for _, owed in report] == reports
    assert world.left() == []


def test_a_message_that_is_too_old_fails_with_the_last_reply(world):
    world.answers["late@a.example"] = Deferred(LATER)
    world.enqueue("late@a.example")
    for _ in range(3):
        world.later(86_400 / 2)
    assert [owed for report in world.reports for _, owed in report] == ["delayed", "failed"]
    assert world.left() == []


def test_the_sender_is_warned_of_a_delay_once(world):
    world.answers["late@a.example"] = Deferred(LATER)
    world.enqueue("late@a.example", Recipient("quiet@a.example", notify=frozenset({"FAILURE"})))
    world.answers["quiet@a.example"] = Deferred(LATER)
    for _ in range(5):
        world.later(4 * 3600)
        world.new_runner()
    assert world.reports == [[("late@a.example", "delayed")]]


def test_a_crash_after_delivery_and_before_removal_costs_a_duplicate_at_most(world):
    world.enqueue("bob@a.example")

    async def crash():
        removing = asyncio.Event()

        async def remove(message, journal):
            removing.set()
            await asyncio.Event().wait()

        world.spool.remove = remove
        task = asyncio.create_task(world.runner.run_once())
        await removing.wait()
        task.cancel()

    asyncio.run(crash())
    del world.spool.remove
    assert world.left() == ["m1"]
    world.new_runner()
    world.run()
    assert world.attempts == [("a.example", ["bob@a.example"])] * 2
    assert world.left() == []


def test_who_has_it_already_does_not_get_it_again_after_a_crash_during_the_others_attempt(world):
    async def crash():
        world.answers["slow@b.example"] = asyncio.Event()
        world.enqueue("bob@a.example", "slow@b.example")
        task = asyncio.create_task(world.runner.run_once())
        while world.state().recipients[0].is_pending:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(crash())
    world.attempts.clear()
    world.answers.clear()
    world.new_runner()
    world.run()
    assert world.attempts == [("b.example", ["slow@b.example"])]
    assert world.left() == []


def test_a_courier_that_breaks_defers_and_stops_nothing(world):
    world.answers["bug@a.example"] = RuntimeError("bug")
    world.enqueue("bug@a.example", trace_id="m1")
    world.enqueue("bob@b.example", trace_id="m2")
    world.run()
    assert world.left() == ["m1"]
    assert world.state().recipients[0].reply.code == 451


@pytest.mark.parametrize(("error", "left"), [(Refused(NEVER), []), (TryLater("no database"), ["m1"])])
def test_an_address_that_has_no_route_fails_or_waits_as_routing_says(world, error, left):
    world.routes["bob@a.example"] = error
    world.enqueue("bob@a.example")
    world.run()
    assert world.attempts == []
    assert world.left() == left
    assert len(world.reports) == 1 - len(left)


def test_a_route_that_has_changed_meanwhile_is_followed(world):
    world.answers["bob@a.example"] = Deferred(LATER)
    world.enqueue("bob@a.example")
    world.run()
    world.answers.clear()
    world.routes["bob@a.example"] = Route("smtp", "elsewhere.example")
    world.later()
    assert world.attempts[1:] == [("elsewhere.example", ["bob@a.example"])]
    assert world.left() == []


def test_an_unreachable_destination_is_left_alone_for_a_while(world):
    unreachable = Deferred(Reply(451, "4.4.1", "no answer"), unreachable=True)
    world.answers |= {f"u{number}@a.example": unreachable for number in range(3)}
    world.enqueue("u0@a.example")
    world.run()
    world.enqueue("u1@a.example", trace_id="m2")
    world.enqueue("bob@b.example", trace_id="m3")
    world.run()
    assert [destination for destination, _ in world.attempts] == ["a.example", "b.example"]
    world.answers.clear()
    world.later()
    assert world.left() == []


def test_a_held_message_waits_until_it_is_released(world):
    world.enqueue("bob@a.example")
    with world.changing() as state:
        state.hold = True
    world.later(10_000)
    assert world.attempts == []
    with world.changing() as state:
        state.hold = False
    world.run()
    assert world.left() == []


def test_a_message_that_the_operator_deletes_is_not_sent_and_goes_away(world):
    world.enqueue("bob@a.example")
    with world.changing() as state:
        state.deleted = True
    world.run()
    assert world.attempts == []
    assert world.reports == []
    assert world.left() == []


def test_retry_means_now_also_where_the_destination_is_paused(world):
    world.answers["bob@a.example"] = Deferred(LATER, unreachable=True)
    world.enqueue("bob@a.example")
    world.run()
    world.answers.clear()
    with world.changing() as state:
        state.recipients[0].next_attempt = 0.0
    world.run()
    assert world.left() == []


def test_a_message_that_someone_else_is_changing_is_left_alone_for_a_moment(world):
    world.enqueue("bob@a.example")
    with world.spool.claim("m1"):
        world.run()
        assert world.attempts == []
    world.later(1)
    assert world.left() == []


def test_what_is_no_message_is_set_aside_and_the_rest_delivered(world):
    for name in ("0torn", ".hidden", "a b"):
        with open(os.path.join(world.spool.messages, name), "wb") as file:
            file.write(b'{"envelope":')
    world.enqueue("bob@a.example")
    world.run()
    assert world.left() == []
    assert len(os.listdir(os.path.join(world.spool.directory, "corrupt"))) == 3


def test_a_state_that_cannot_be_saved_is_kept_in_memory(world):
    world.answers["late@a.example"] = Deferred(LATER)
    world.enqueue("late@a.example", "bob@a.example")
    os.rmdir(os.path.join(world.spool.directory, "state"))
    world.run()
    world.answers.clear()
    world.later()
    assert world.attempts[1:] == [("a.example", ["late@a.example"])]
    assert world.left() == []


def test_a_backlog_larger_than_the_window_goes_out_and_others_are_not_delayed(world, monkeypatch):
    monkeypatch.setattr(schedule, "WINDOW", 100)
    runner = world.new_runner()
    for number in range(300):
        world.enqueue(f"user{number}@slow.example", trace_id=f"a{number:03}", sender="bulk@example.test")
    world.enqueue("bob@b.example", trace_id="z", sender="bulk@example.test")
    world.enqueue("bob@slow.example", trace_id="zz")
    world.run()
    assert world.left() == []
    assert len(world.attempts) == 302
    first = [address for _, (address,) in world.attempts[:100]]
    assert {"bob@b.example", "bob@slow.example"} <= set(first)
    assert runner._schedule.jobs("a000") == []


def test_a_backlog_to_a_destination_that_does_not_answer_is_given_up_in_time_without_asking_again(world):
    for number in range(30):
        world.answers[f"user{number}@a.example"] = Deferred(LATER, unreachable=True)
        world.enqueue(f"user{number}@a.example", trace_id=f"m{number:02}")
    world.run()
    asked = len(world.attempts)
    assert asked == 5
    assert world.runner._schedule.room == schedule.WINDOW
    world.clock.advance(86_399)
    world.run()
    world.later(1)
    assert world.left() == []
    assert [owed for report in world.reports for _, owed in report].count("failed") == 30
    assert len(world.attempts) < 15


@pytest.mark.parametrize("what", ["deleted", "delivered", "held and deleted"])
def test_nothing_is_left_in_the_index_of_a_message_that_went_because_the_operator_said_so(world, what):
    """What is on hold would have been counted for ever."""
    world.answers["late@a.example"] = Deferred(LATER)
    world.enqueue("late@a.example")
    world.run()
    if what.startswith("held"):
        with world.changing() as state:
            state.hold = True
        world.run()
        assert counted(world) == {"active": 0, "deferred": 0, "hold": 1}
    world.answers.clear()
    with world.changing() as state:
        state.deleted = what.endswith("deleted")
        state.recipients[0].next_attempt = 0.0
    world.run()
    assert world.left() == []
    assert counted(world) == {"active": 0, "deferred": 0, "hold": 0}


def counted(world):
    found = census(world.spool.directory, world.clock.now().timestamp())
    return {state: count for state, (count, _) in found.items()}


def lose_index(world):
    for name in os.listdir(world.spool.directory):
        if name.startswith("index.db"):
            os.unlink(os.path.join(world.spool.directory, name))


def test_the_directory_is_asked_once_a_domain_while_a_lost_index_is_filled(world):
    """Of a hundred thousand deferred messages it would be most of the work."""
    for number in range(60):
        recipients = [f"u{number}@{'abc'[number % 3]}.example", f"v{number}@d.example"]
        world.answers |= dict.fromkeys(recipients, Deferred(LATER))
        world.enqueue(*recipients, trace_id=f"m{number}")
    world.run()
    world.new_runner()
    lose_index(world)
    world.routes["u4@b.example"] = Route("smtp", "other.example")
    world.attempts.clear()
    world.asked = 0
    world.run()
    assert world.attempts == []
    assert world.asked <= 6
    world.answers.clear()
    world.later()
    assert world.left() == []
    assert sorted(name for _, names in world.attempts for name in names) == sorted(
        [f"u{number}@{'abc'[number % 3]}.example" for number in range(60)]
        + [f"v{number}@d.example" for number in range(60)]
    )
    assert ("other.example", ["u4@b.example"]) in world.attempts


def test_the_index_may_be_lost_and_is_filled_again(world):
    world.answers["late@a.example"] = Deferred(LATER)
    world.enqueue("late@a.example")
    world.run()
    world.new_runner()
    lose_index(world)
    world.run()
    assert len(world.attempts) == 1
    world.answers.clear()
    world.later()
    assert world.left() == []


def test_a_running_queue_notices_new_messages_and_the_operators_changes(world):
    async def go():
        watch = Watch()
        runner = world.new_runner(watch)
        task = asyncio.create_task(runner.run())
        world.answers["late@a.example"] = Deferred(LATER)
        world.enqueue("late@a.example")
        while not world.attempts:
            await asyncio.sleep(0.001)
        while world.state().recipients[0].attempts == 0:
            await asyncio.sleep(0.001)
        world.answers.clear()
        while True:
            try:
                with world.changing() as state:
                    state.recipients[0].next_attempt = 0.0
                break
            except BusyError:
                await asyncio.sleep(0.001)
        while world.left():
            await asyncio.sleep(0.001)
        await runner.drain()
        await asyncio.wait_for(task, 5)
        watch.close()

    asyncio.run(asyncio.wait_for(go(), 30))
    assert len(world.attempts) == 2


def test_a_drain_breaks_off_what_takes_too_long_and_loses_nothing(world):
    async def go():
        world.answers["slow@a.example"] = asyncio.Event()
        world.enqueue("slow@a.example")
        task = asyncio.create_task(world.runner.run())
        while not world.attempts:
            await asyncio.sleep(0.001)
        await world.runner.drain(limit_seconds=0.01)
        await asyncio.wait_for(task, 5)

    asyncio.run(go())
    assert world.left() == ["m1"]
    world.answers.clear()
    world.new_runner()
    world.run()
    assert world.left() == []


DAYS = 86_400.0


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_is_set_back_by_days_keeps_no_mail_waiting_for_days(world, restarts):
    world.answers["bob@example.org"] = Deferred(LATER)
    world.enqueue("bob@example.org")
    for _ in range(5):
        world.later(4000)
    tries = len(world.attempts)
    world.clock.jump(-3 * DAYS)
    if restarts:
        world.new_runner()
    world.run()
    world.later(4001)
    assert len(world.attempts) > tries
    world.answers.clear()
    world.later(4001)
    assert world.left() == []
    assert "failed" not in [owed for report in world.reports for _, owed in report]


def test_a_clock_that_is_set_forward_by_days_gives_nothing_up(world):
    machine = world.clock
    world.clock = SteadyClock(machine)
    world.new_runner()
    world.answers["bob@example.org"] = Deferred(LATER)
    world.enqueue("bob@example.org")
    for jump in (10 * DAYS, 0, 0, -10 * DAYS, 0, 0):
        machine.jump(jump)
        for _ in range(3):
            machine.advance(2000)
            world.run()
    assert world.left() == ["m1"]
    assert "failed" not in [owed for report in world.reports for _, owed in report]
    assert len(world.attempts) > 5
    world.answers.clear()
    machine.advance(8000)
    world.run()
    assert world.left() == []


def test_a_pause_is_no_longer_for_a_clock_that_was_set_back(world):
    world.answers["bob@example.org"] = Deferred(Reply(421, "4.4.2", "Go away"), unreachable=True)
    world.enqueue("bob@example.org")
    world.run()
    world.answers.clear()
    world.clock.jump(-3 * DAYS)
    world.run()
    assert len(world.attempts) == 1
    world.later(600)
    assert world.left() == []
