"""What a process remembers of the directory: how much, how long, and until when."""

import asyncio

import pytest

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.settings import Settings
from posthouse.directory import directory as module
from posthouse.directory.cache import FOREVER, Cache, Entry
from posthouse.directory.changes import NetworkChanges
from posthouse.directory.directory import Directory
from posthouse.directory.model import Discard, Failure, Resolution
from posthouse.directory.resolution import Outcome
from posthouse.directory.version import NEEDED, VERSION_TABLE


def test_the_weight_is_bounded_and_the_oldest_go_first():
    cache = Cache(10)
    for key in range(6):
        cache.put(key, Entry(key, FOREVER, 3), 0)
    assert list(cache.entries) == [3, 4, 5]
    cache.put(3, Entry("again", FOREVER, 1), 0)
    assert list(cache.entries) == [4, 5, 3]
    cache.put(6, Entry("too heavy", FOREVER, 11), 0)
    assert list(cache.entries) == [4, 5, 3]


def test_what_was_asked_before_a_drop_is_not_kept_after_it():
    cache = Cache(10)
    asked = cache.generation
    cache.drop()
    cache.put("key", Entry("old", FOREVER, 1), asked)
    assert not cache.entries


class Network:
    """A database whose rows are in a dictionary, or that does not answer. It counts the questions."""

    dialect = "mysql"
    name = "the database"

    def __init__(self):
        self.accounts = {"bob@a.test": "a/bob/"}
        self.number = 1
        self.is_down = False
        self.questions = 0
        self.schema = NEEDED

    async def query(self, sql, parameters=()):
        if self.is_down:
            raise TryLater("nobody answers")
        if "information_schema" in sql:
            return [(VERSION_TABLE,)]
        if VERSION_TABLE in sql:
            return [(self.schema,)]
        self.questions += 1
        rows = [(3, "", "a.test", "virtual:")]
        for email, maildir in self.accounts.items():
            if email in parameters:
                rows.append((0, "", email, "", "1001", "1001", "", maildir, "", "y"))
        return rows

    async def version(self):
        if self.is_down:
            raise TryLater("nobody answers")
        return self.number


class Clock:
    seconds = 1_000.0

    def __call__(self):
        return self.seconds


class World:
    def __init__(self, tmp_path, monkeypatch):
        self.database, self.clock = Network(), Clock()
        monkeypatch.setattr(module, "_database", lambda settings: self.database)
        self.directory = Directory(Settings(hostname="mx.host.test", data_dir=str(tmp_path)), self.clock)
        self.lines = []
        monkeypatch.setattr(module, "log", self)

    def warning(self, event, **facts):
        self.lines.append(event)

    async def told(self, address="bob@a.test"):
        try:
            return (await self.directory.resolve(address)).destinations[0].account.maildir
        except (Refused, TryLater) as error:
            return error.reply.code


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_positive_answers_are_believed_for_30_seconds_and_negative_ones_for_5(world):
    async def test():
        assert (await world.told(), await world.told("eve@a.test")) == ("a/bob/", 550)
        world.database.accounts = {"bob@a.test": "a/new/", "eve@a.test": "a/eve/"}
        world.clock.seconds += 4.9
        assert (await world.told(), await world.told("eve@a.test")) == ("a/bob/", 550)
        world.clock.seconds += 0.1
        assert (await world.told(), await world.told("eve@a.test")) == ("a/bob/", "a/eve/")
        world.clock.seconds += 24.9
        assert await world.told() == "a/bob/"
        world.clock.seconds += 0.1
        assert await world.told() == "a/new/"
        assert world.database.questions == 4

    asyncio.run(test())


def test_an_alias_with_a_branch_that_leads_nowhere_is_believed_as_short_as_that_branch(world, monkeypatch):
    failure = Failure("eve@a.test", Reply(550, "5.1.1", "unknown"), "")
    outcomes = [Resolution((Discard("bob@a.test"),), False, (failure,)), Resolution((Discard("bob@a.test"),))]

    async def outcome(_address):
        return Outcome(outcomes[0], asked_host=False)

    monkeypatch.setattr(world.directory.resolver, "outcome", outcome)

    async def test():
        assert (await world.directory.resolve("list@a.test")).failures
        del outcomes[0]
        world.clock.seconds += 5
        assert not (await world.directory.resolve("list@a.test")).failures

    asyncio.run(test())


def test_rows_that_are_wrong_are_believed_as_long_as_a_negative_answer(world):
    async def test():
        world.database.accounts = {"bob@a.test": "/etc/"}
        assert [await world.told() for _ in range(3)] == [451] * 3
        questions = world.database.questions
        world.clock.seconds += 4.9
        assert (await world.told(), world.database.questions) == (451, questions)
        world.database.accounts = {"bob@a.test": "a/bob/"}
        world.clock.seconds += 0.1
        assert await world.told() == "a/bob/"

    asyncio.run(test())


def test_one_recipient_is_one_question(world):
    async def test():
        await world.told("bob+x@a.test")
        assert world.database.questions == 1

    asyncio.run(test())


def test_what_is_known_is_told_while_the_database_is_away_until_a_change_is_known(world):
    async def test():
        await world.told()
        world.database.is_down = True
        world.clock.seconds += 100_000
        assert await world.told() == "a/bob/"
        assert await world.told() == "a/bob/"
        assert await world.told("eve@a.test") == 451
        assert world.lines == ["directory-stale"]
        world.directory._changes.announce()
        world.clock.seconds += 1
        assert await world.told() == 451
        world.database.is_down = False
        assert await world.told() == "a/bob/"
        assert world.lines == ["directory-stale", "directory-back"]

    asyncio.run(test())


def test_a_change_of_this_host_s_other_processes_is_seen_within_20_milliseconds(world, tmp_path):
    async def test():
        await world.told()
        world.database.accounts["bob@a.test"] = "a/new/"
        other = NetworkChanges(world.database, Settings(data_dir=str(tmp_path)), lambda: None)
        for maildir in ("a/new/", "a/newer/"):
            world.database.accounts["bob@a.test"] = maildir
            other.announce()
            world.clock.seconds += module.LOOK_SECONDS * 1.1
            assert await world.told() == maildir

    asyncio.run(test())


def test_a_change_of_another_host_is_seen_when_the_version_was_asked_for(world):
    async def test():
        changes = world.directory._changes
        await changes.ask()
        await world.told()
        world.database.accounts["bob@a.test"] = "a/new/"
        world.clock.seconds += 1
        await changes.ask()
        assert await world.told() == "a/bob/"
        world.database.number += 1
        await changes.ask()
        world.clock.seconds += 1
        assert await world.told() == "a/new/"

    asyncio.run(test())


def test_a_change_of_another_host_before_the_first_answer_is_seen_too(world):
    async def test():
        changes = world.directory._changes
        assert await world.told() == "a/bob/"
        world.database.accounts["bob@a.test"] = "a/new/"
        world.database.number += 1
        await changes.ask()
        world.clock.seconds += 1
        assert await world.told() == "a/new/"
        questions = world.database.questions
        await changes.ask()
        world.clock.seconds += 1
        assert (await world.told(), world.database.questions) == ("a/new/", questions)

    asyncio.run(test())


def test_the_version_is_asked_for_beside_everything_else_and_a_hit_never_waits_for_it(world):
    async def test():
        await world.told()
        answer = asyncio.Event()

        async def hang():
            await answer.wait()
            return 2

        world.database.version = hang
        asking = asyncio.create_task(world.directory._changes.ask())
        await asyncio.sleep(0)
        assert await asyncio.wait_for(world.told(), 5) == "a/bob/"
        assert not asking.done()
        asking.cancel()

    asyncio.run(test())


def test_the_stamp_is_not_made_through_a_link(world, tmp_path):
    (tmp_path / "directory.stamp").symlink_to(tmp_path / "elsewhere")
    world.directory._changes.announce()
    assert not (tmp_path / "elsewhere").exists()
