"""mailqueue/runner.py: what was just announced to a running queue."""

import asyncio
import os

import pytest
from tests.unit.mailqueue.test_runner import OK, World

from posthouse.mailqueue.courier import Delivered
from posthouse.mailqueue.spool import BusyError
from posthouse.runtime.watch import Watch


@pytest.fixture
def world(tmp_path):
    world = World(str(tmp_path))
    yield world
    world.journal.close()


def running(world, scenario):
    """The queue runs for as long as the scenario does."""

    async def go():
        watch = Watch()
        runner = world.new_runner(watch)
        task = asyncio.create_task(runner.run())
        while runner._looking is None or not runner._looking.done():
            await asyncio.sleep(0.001)
        await scenario()
        await runner.drain()
        await asyncio.wait_for(task, 5)
        watch.close()

    asyncio.run(asyncio.wait_for(go(), 30))


def is_free(world, name):
    try:
        claim = world.spool.claim(name)
    except BusyError:
        return False
    claim.release()
    return True


def test_what_waits_for_its_turn_is_the_operators_to_change(world):
    names = [f"m{number}" for number in range(8)]
    done = asyncio.Event()

    async def scenario():
        for name in names:
            world.answers[f"{name}@a.example"] = done
            world.enqueue(f"{name}@a.example", trace_id=name)
        while len(world.attempts) < 5:
            await asyncio.sleep(0.001)
        while sum(is_free(world, name) for name in names) != 3:
            await asyncio.sleep(0.001)
        waiting = [name for name in names if is_free(world, name)]
        for name in waiting:
            with world.changing(name) as state:
                state.hold = True
        done.set()
        while sorted(world.left()) != waiting:
            await asyncio.sleep(0.001)
        assert len(world.attempts) == 5

    running(world, scenario)


def test_one_that_the_operator_has_just_taken_is_left_to_him_until_he_is_done(world, monkeypatch):
    monkeypatch.setattr("posthouse.mailqueue.runner.BUSY_WAIT_SECONDS", 0.0)

    async def scenario():
        world.enqueue("bob@a.example")
        claim = world.spool.claim("m1")
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert world.attempts == []
        claim.release()
        while world.left():
            await asyncio.sleep(0.001)

    running(world, scenario)


def open_messages(world):
    files = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if exists(number)]
    return [path for path in files if path.startswith(world.spool.messages)]


def exists(number):
    return os.path.lexists(f"/proc/self/fd/{number}")


def test_many_that_leave_at_once_leave_nothing_open(world):

    async def scenario():
        for number in range(300):
            world.answers[f"u{number}@a.example"] = Delivered(OK)
            world.enqueue(f"u{number}@a.example", trace_id=f"m{number}")
        while world.left():
            await asyncio.sleep(0.001)

    running(world, scenario)
    assert open_messages(world) == []
