"""Changing rows on every database: one after the other, seen at once; and what is told while no server answers."""

import asyncio
from dataclasses import replace

import pytest
from tests.contract.directories import House, with_house

from posthouse.base.errors import Refused, TryLater
from posthouse.directory.model import Actor
from posthouse.directory.version import NEEDED, VERSION_TABLE

ROOT = Actor("cli:root")


async def add_alias(tables, key="sales@a.test", destination="x@else.test"):
    await tables.add_rows("virtual", [(key, destination)])
    await tables.audit("alias add", key)


async def version(house) -> int:
    ((found,),) = await house.database.query("SELECT version FROM posthouse_state")
    return int(found)


def test_a_change_is_seen_at_once_by_this_process_and_by_others(database):
    async def test(house):
        other = House(house.settings)
        await other.directory.open()
        before = await version(house)
        for one in (house, other):
            assert await one.said("sales@a.test") == "550 5.1.1 No such mailbox here"
        await house.directory.change(ROOT, add_alias)
        assert await house.said("sales@a.test") == "smtp::x@else.test"
        other.clock.seconds += 0.03
        assert await other.said("sales@a.test") == "smtp::x@else.test"
        assert await version(house) == before + 1
        await other.directory.close()

    with_house(database, test)


def test_a_change_that_fails_or_is_not_audited_leaves_nothing_behind(database):
    async def test(house):
        async def fail(tables):
            await add_alias(tables)
            assert (await tables.explain("sales@a.test")).resolution.destinations
            raise Refused(TryLater("").reply, "no")

        before = await version(house)
        with pytest.raises(Refused):
            await house.directory.change(ROOT, fail)
        with pytest.raises(RuntimeError):
            await house.directory.change(
                ROOT, lambda tables: tables.add_rows("virtual", [("sales@a.test", "x@e.test")])
            )
        assert await house.said("sales@a.test") == "550 5.1.1 No such mailbox here"
        assert await version(house) == before

    with_house(database, test)


def test_changes_are_made_one_after_the_other(database):
    async def test(house):
        other = House(house.settings)
        await other.directory.open()
        before = await version(house)

        async def count_up(tables):
            found = await tables.keyed("virtual", ["n@a.test"])
            await tables.remove("virtual", "n@a.test")
            await add_alias(tables, "n@a.test", f"n{len(found) and int(found[0].destination[1:-7]) + 1}@e.test")

        directories = [house.directory, other.directory] * 5
        await asyncio.gather(*(directory.change(ROOT, count_up) for directory in directories))
        assert await house.goes_to("n@a.test") == ["smtp::n9@e.test"]
        assert await version(house) == before + 10
        await other.directory.close()

    with_house(database, test)


def test_what_is_known_is_told_while_no_server_answers(database, request):
    if database.database.url.startswith("sqlite"):
        pytest.skip("a file is always there")
    server = request.getfixturevalue("mariadb" if database.database.url.startswith("mysql") else "postgresql")

    async def test(house):
        await house.user("bob@a.test", "a/bob/", clear="secret")
        known = await house.directory.credentials("bob@a.test")
        assert await house.said("bob@a.test") == "a/bob/"
        server.stop()
        house.clock.seconds += 1_000
        assert await house.said("bob@a.test") == "a/bob/"
        assert await house.directory.credentials("bob@a.test") == known
        assert (await house.said("eve@a.test")).startswith("451")
        with pytest.raises(TryLater):
            await house.directory.change(ROOT, add_alias)
        house.clock.seconds += 1
        assert await house.said("bob@a.test") == "a/bob/"
        server.start()
        async with asyncio.timeout(30):
            while (await house.said("eve@a.test")).startswith("451"):
                await asyncio.sleep(0.05)
        assert await house.said("eve@a.test") == "550 5.1.1 No such mailbox here"

    with_house(database, test)


def test_who_serves_may_open_before_any_server_answers_and_believes_no_wrong_schema(database, request):
    if database.database.url.startswith("sqlite"):
        pytest.skip("a file is always there")
    server = request.getfixturevalue("mariadb" if database.database.url.startswith("mysql") else "postgresql")

    async def test(house):
        await house.user("bob@a.test", "a/bob/")
        server.stop()
        early = House(house.settings)
        with pytest.raises(TryLater, match="no server"):
            await early.directory.open()
        await early.directory.open(may_be_away=True)
        try:
            assert (await early.said("bob@a.test")).startswith("451")
            server.start()
            server.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0001'")
            async with asyncio.timeout(30):
                while "posthouse db upgrade" not in await early.trouble("bob@a.test"):
                    await asyncio.sleep(0.05)
            server.execute(f"UPDATE {VERSION_TABLE} SET version_num = '{NEEDED}'")
            async with asyncio.timeout(30):
                while await early.said("bob@a.test") != "a/bob/":
                    await asyncio.sleep(0.05)
        finally:
            await early.directory.close()

    with_house(database, test)


def test_a_wrong_password_or_schema_that_can_be_seen_stops_who_would_serve(database):
    if database.database.url.startswith("sqlite"):
        pytest.skip("a file has neither")

    async def test(house):
        wrong = replace(
            house.settings.database, url=house.settings.database.url.replace("posthouse:", "posthouse:no")
        )
        with pytest.raises(TryLater, match=r"denied|failed"):
            await House(replace(house.settings, database=wrong)).directory.open(may_be_away=True)
        await house.run(f"UPDATE {VERSION_TABLE} SET version_num = '0001'")
        with pytest.raises(TryLater, match="posthouse db upgrade"):
            await House(house.settings).directory.open(may_be_away=True)

    with_house(database, test)


def test_a_directory_without_its_schema_is_not_opened(database):
    if database.database.url.startswith("sqlite"):
        pytest.skip("a file is made and brought up to date")

    async def test(house):
        await house.run(f"UPDATE {VERSION_TABLE} SET version_num = '0001' WHERE version_num = '{NEEDED}'")
        with pytest.raises(TryLater, match="posthouse db upgrade"):
            await House(house.settings).directory.open()

    with_house(database, test)
