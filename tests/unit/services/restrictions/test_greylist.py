"""services/restrictions/greylist.py"""

import asyncio

import pytest

from posthouse.base.clock import FakeClock
from posthouse.config.reception import Greylist as Limits
from posthouse.services.restrictions.greylist import GREYLIST_FILE, Greylist

LIMITS = Limits(wait_seconds=300, retry_seconds=7200, known_after=3, keep_days=1)


class World:
    def __init__(self, path):
        self.clock = FakeClock()
        self.path = str(path / GREYLIST_FILE)
        self.greylist = Greylist(self.path, LIMITS, self.clock)

    async def ask(self, client="192.0.2.1", sender="a@example.org", recipient="b@example.test", **options):
        return await self.greylist.wait_seconds(client, sender, recipient, **options)


@pytest.fixture
def run(tmp_path):
    def run(test):
        async def go():
            world = World(tmp_path)
            try:
                await test(world)
            finally:
                await world.greylist.close()

        asyncio.run(go())

    return run


def test_the_first_time_waits_and_the_second_passes_from_anywhere_in_the_network(run):
    async def test(world):
        assert await world.ask() == 300
        world.clock.advance(100)
        assert await world.ask(client="192.0.2.99") == 200
        world.clock.advance(200)
        assert await world.ask(client="192.0.2.77", sender="A@Example.ORG") == 0
        assert await world.ask() == 0
        assert await world.ask(client="198.51.100.1") == 300

    run(test)


def test_who_has_come_again_often_enough_need_not_wait(run):
    async def test(world):
        for number in range(LIMITS.known_after):
            assert await world.ask(sender=f"{number}@example.org") == 300
        world.clock.advance(300)
        for number in range(LIMITS.known_after):
            assert await world.ask(sender=f"{number}@example.org") == 0
        assert await world.ask(sender="new@example.org") == 0
        world.clock.advance(2 * 86_400)
        assert await world.ask(sender="new@example.org") == 300

    run(test)


def test_who_never_came_again_begins_anew(run):
    async def test(world):
        assert await world.ask() == 300
        world.clock.advance(7201)
        assert await world.ask() == 300

    run(test)


@pytest.mark.parametrize("jump", [-3 * 86_400, -10, 3 * 86_400])
def test_a_clock_that_jumps_makes_nobody_wait_longer_than_usual(run, jump):
    async def test(world):
        assert await world.ask() == 300
        world.clock.jump(jump)
        assert await world.ask() == 300  # what is to come never was
        world.clock.advance(300)
        assert await world.ask() == 0
        world.clock.jump(jump)
        assert await world.ask() in (0, 300)  # after days forward it is forgotten
        world.clock.advance(300)
        assert await world.ask() == 0

    run(test)


def test_who_is_known_stays_known_when_the_clock_is_set_back(run):
    async def test(world):
        for number in range(LIMITS.known_after):
            await world.ask(sender=f"{number}@example.org")
        world.clock.advance(300)
        for number in range(LIMITS.known_after):
            await world.ask(sender=f"{number}@example.org")
        world.clock.jump(-30 * 86_400)
        assert await world.ask(sender="new@example.org") == 0

    run(test)


def test_an_explanation_changes_nothing(run):
    async def test(world):
        assert await world.ask(counts=False) == 300
        world.clock.advance(300)
        assert await world.ask() == 300

    run(test)


def test_two_processes_know_the_same(run):
    async def test(world):
        other = Greylist(world.path, LIMITS, world.clock)
        assert await world.ask() == 300
        world.clock.advance(300)
        assert await other.wait_seconds("192.0.2.1", "a@example.org", "b@example.test") == 0
        await other.close()

    run(test)


def test_a_broken_file_delays_nobody(run, tmp_path):
    (tmp_path / GREYLIST_FILE).write_bytes(b"not a database" * 1000)

    async def test(world):
        assert await world.ask() == 0

    run(test)
