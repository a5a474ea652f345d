"""What every database does alike with look-ups and single changes."""

import asyncio

import pytest
from tests.contract.conftest import sql

from posthouse.base.errors import TryLater

HOSTILE = [
    "'",
    "\\",
    "\\'",
    "' OR 'a' = 'a",
    '" OR "a" = "a',
    "x'; DROP TABLE things; -- ",
    "x/*",
    "%s %% %1 ?1 $1 :a {}",
    "tab\tline\r\n\x1a\x08",
    "ä€😀",
    "\u00bf'; --",  # in GBK an octet that swallows the quote's backslash
    "縗'",
    "a" * 120,
    "",
]
THINGS = "CREATE TABLE things (id INTEGER, name VARCHAR(200))"


def test_a_row_is_found_by_its_text_whatever_that_is(with_database):
    """Quotes, comments, placeholders, octets that swallow a backslash."""

    async def body(database):
        await database.run(THINGS)
        for number, text in enumerate(HOSTILE):
            assert await database.run(sql(database, "INSERT INTO things VALUES ({}, {})"), (number, text)) == 1
        for number, text in enumerate(HOSTILE):
            found = await database.query(sql(database, "SELECT id, name FROM things WHERE name = {}"), (text,))
            assert [tuple(row) for row in found] == [(number, text)]
        assert [row[0] for row in await database.query("SELECT COUNT(*) FROM things")] == [len(HOSTILE)]

    with_database(body)


@pytest.mark.parametrize("text", ["\ud800", "a\udcff'", "\0' OR 1 = 1 -- "], ids=ascii)
def test_text_that_no_column_holds_is_in_no_row(with_database, text):
    async def body(database):
        await database.run(THINGS)
        await database.run(sql(database, "INSERT INTO things VALUES ({}, {})"), (1, "a"))
        assert list(await database.query(sql(database, "SELECT id FROM things WHERE name = {}"), (text,))) == []
        assert len(await database.query("SELECT id FROM things")) == 1  # the connection is as good as before

    with_database(body)


def test_null_numbers_and_text_come_back_as_they_went(with_database):
    async def body(database):
        await database.run(THINGS)
        await database.run(sql(database, "INSERT INTO things VALUES ({}, {})"), (None, None))
        await database.run(sql(database, "INSERT INTO things VALUES ({}, {})"), (-5, "5"))
        rows = await database.query("SELECT id, name FROM things ORDER BY name")
        assert sorted(map(tuple, rows), key=str) == [(-5, "5"), (None, None)]

    with_database(body)


def test_a_change_says_how_many_rows_it_found(with_database):
    """Also where it made nothing different."""

    async def body(database):
        await database.run(THINGS)
        for name in "ab":
            await database.run(sql(database, "INSERT INTO things VALUES (1, {})"), (name,))
        assert await database.run("UPDATE things SET id = 1") == 2
        assert await database.run(sql(database, "DELETE FROM things WHERE name = {}"), ("b",)) == 1
        assert await database.run(sql(database, "DELETE FROM things WHERE name = {}"), ("b",)) == 0

    with_database(body)


def test_an_unknown_table_is_our_trouble(with_database):
    async def body(database):
        with pytest.raises(TryLater, match="nothing_like_it"):
            await database.query("SELECT 1 FROM nothing_like_it")
        with pytest.raises(TryLater, match="nothing_like_it"):
            await database.run("DELETE FROM nothing_like_it")
        assert list(await database.query("SELECT 1"))

    with_database(body)


def test_a_hundred_questions_at_once_are_all_answered(with_database):
    """More than there are connections."""

    async def body(database):
        statement = sql(database, "SELECT {}" if database.dialect != "postgresql" else "SELECT {}::text")
        answers = await asyncio.gather(*(database.query(statement, (str(number),)) for number in range(100)))
        assert [rows[0][0] for rows in answers] == [str(number) for number in range(100)]

    with_database(body)


def test_a_question_that_was_cancelled_gives_nobody_its_answer(with_database):
    async def body(database):
        statement = sql(database, "SELECT {}" if database.dialect != "postgresql" else "SELECT {}::text")
        for number in range(60):
            task = asyncio.create_task(database.query(statement, ("old",)))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await database.query(statement, (str(number),)))[0][0] == str(number)

    with_database(body)
