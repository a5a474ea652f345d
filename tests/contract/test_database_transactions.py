"""What every database does alike with transactions."""

import asyncio

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from tests.contract.conftest import sql

from posthouse.base.errors import Refused, Reply, TryLater

metadata = MetaData()
things = Table("things", metadata, Column("id", Integer, primary_key=True), Column("name", String(50), unique=True))
THINGS = "CREATE TABLE things (id INTEGER PRIMARY KEY, name VARCHAR(50) UNIQUE)"


async def names(queries) -> list[str]:
    return [row[0] for row in await queries.query("SELECT name FROM things ORDER BY id")]


def test_what_is_done_is_seen_within_and_afterwards_by_all(with_database):
    async def body(database):
        await database.run(THINGS)

        async def work(transaction):
            assert transaction.dialect == database.dialect
            await transaction.execute(insert(things), [{"id": 1, "name": "a"}, {"id": 2, "name": "100 %"}])
            await transaction.execute(insert(things).values(id=3, name="it's"))
            statement = update(things).where(things.c.id == bindparam("which")).values(name=bindparam("new"))
            await transaction.execute(statement, [{"which": 1, "new": "A"}])
            await transaction.execute(delete(things).where(things.c.name.in_(["it's", "x"])))
            rows = await transaction.execute(select(things.c.name).where(things.c.id == 2))
            assert [tuple(row) for row in rows] == [("100 %",)]
            found = await transaction.query(sql(database, "SELECT id FROM things WHERE name = {}"), ("A",))
            assert [tuple(row) for row in found] == [(1,)]
            return await names(transaction)

        assert await database.transaction(work) == ["A", "100 %"]
        assert await names(database) == ["A", "100 %"]

    with_database(body)


@pytest.mark.parametrize("error", [Refused(Reply(550, "", "no")), TryLater("later"), KeyError("bug")], ids=repr)
def test_an_error_undoes_everything_and_passes_through(with_database, error):
    async def body(database):
        await database.run(THINGS)

        async def work(transaction):
            await transaction.execute(insert(things).values(id=1, name="a"))
            raise error

        with pytest.raises(type(error)) as caught:
            await database.transaction(work)
        assert caught.value is error
        assert await names(database) == []

    with_database(body)


def test_a_second_row_with_a_unique_key_is_an_integrity_error_and_ends_nothing(with_database):
    async def body(database):
        await database.run(THINGS)

        async def work(transaction):
            await transaction.execute(insert(things).values(id=1, name="a"))
            with pytest.raises(IntegrityError):
                await transaction.execute(insert(things).values(id=2, name="a"))
            await transaction.execute(insert(things).values(id=3, name="b"))

        await database.transaction(work)
        assert await names(database) == ["a", "b"]

        async def careless(transaction):
            await transaction.execute(insert(things).values(id=4, name="c"))
            await transaction.execute(insert(things).values(id=1, name="d"))

        with pytest.raises(IntegrityError):
            await database.transaction(careless)
        assert await names(database) == ["a", "b"]

    with_database(body)


def test_counting_up_together_loses_no_count(with_database):
    """A row that all lock first is how changes are made one after the other."""

    async def body(database):
        await database.run(THINGS)
        await database.run("INSERT INTO things VALUES (1, '0')")

        async def count(transaction):
            await transaction.execute(update(things).where(things.c.id == 1).values(name=things.c.name))
            ((number,),) = await transaction.execute(select(things.c.name).where(things.c.id == 1))
            await transaction.execute(update(things).where(things.c.id == 1).values(name=str(int(number) + 1)))

        await asyncio.gather(*(database.transaction(count) for _ in range(12)))
        assert await names(database) == ["12"]

    with_database(body)


def test_two_that_wait_for_each_other_both_get_done(with_database):
    """A deadlock: one of them is begun again."""

    async def body(database):
        await database.run(THINGS)
        await database.run("INSERT INTO things VALUES (1, 'a'), (2, 'b')")
        both_have_one = asyncio.Barrier(2)
        runs = []

        def work_on(first, second):
            async def work(transaction):
                runs.append(first)
                await transaction.execute(update(things).where(things.c.id == first).values(name=f"{first}{second}"))
                if runs.count(first) == 1 and database.dialect != "sqlite":  # which has one writer at a time
                    await both_have_one.wait()
                await transaction.execute(
                    update(things).where(things.c.id == second).values(name=f"{first}{second} too")
                )

            return work

        await asyncio.gather(database.transaction(work_on(1, 2)), database.transaction(work_on(2, 1)))
        assert len(runs) == (2 if database.dialect == "sqlite" else 3)
        assert await names(database) in (["12", "12 too"], ["21 too", "21"])

    with_database(body)


def test_a_transaction_that_is_cancelled_leaves_nothing(with_database):
    async def body(database):
        await database.run(THINGS)
        has_written = asyncio.Event()

        async def work(transaction):
            await transaction.execute(insert(things).values(id=1, name="a"))
            has_written.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(database.transaction(work))
        await has_written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await database.run("INSERT INTO things VALUES (2, 'b')")
        assert await names(database) == ["b"]

    with_database(body)


def test_text_that_the_database_can_not_hold_is_no_trouble_of_a_server(with_database):
    async def body(database):
        await database.run(THINGS)

        async def work(transaction):
            await transaction.execute(insert(things).values(id=1, name="half \ud800"))

        with pytest.raises((ValueError, TryLater)):
            await database.transaction(work)
        assert await names(database) == []

    with_database(body)
