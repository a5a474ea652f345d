"""A database that is not believed before its schema was looked at."""

import asyncio

import pytest
import structlog
from structlog.testing import LogCapture

from posthouse.base.errors import TryLater
from posthouse.directory import checked
from posthouse.directory.checked import CheckedDatabase
from posthouse.directory.version import NEEDED, VERSION_TABLE


class Network:
    """A database with one row, that counts who asks for its schema."""

    dialect = "mysql"
    name = "the database"

    def __init__(self, schema):
        self.schema = schema
        self.looks = 0

    async def open(self, *, may_be_away=False):
        pass

    async def close(self):
        pass

    async def query(self, sql, parameters=()):
        await asyncio.sleep(0)
        if self.schema is None:
            raise TryLater("nobody answers")
        if "information_schema" in sql:
            self.looks += 1
            return [(VERSION_TABLE,)]
        return [(self.schema,)] if VERSION_TABLE in sql else [("row",)]


@pytest.fixture
def logs(monkeypatch):
    capture = LogCapture()
    monkeypatch.setattr(checked, "log", structlog.wrap_logger(None, processors=[capture]))
    return capture.entries


async def said(database):
    try:
        return await database.query("SELECT row")
    except TryLater as error:
        return error.reason


def test_the_schema_is_looked_at_once_before_the_first_answer(logs):
    async def test():
        network = Network(None)
        database = CheckedDatabase(network)
        assert await said(database) == "nobody answers"
        network.schema = NEEDED
        assert await asyncio.gather(*(said(database) for _ in range(5))) == [[("row",)]] * 5
        assert network.looks == 1

    asyncio.run(test())
    assert logs == []


def test_a_schema_that_does_not_fit_is_told_once_and_looked_at_again(logs, monkeypatch):
    async def test():
        network = Network("0001")
        database = CheckedDatabase(network)
        for _ in range(3):
            assert "posthouse db upgrade" in await said(database)
        assert network.looks == 1
        monkeypatch.setattr(checked, "LOOK_SECONDS", 0.0)
        assert "posthouse db upgrade" in await said(database)
        network.schema = NEEDED
        assert await said(database) == [("row",)]

    asyncio.run(test())
    assert [line["event"] for line in logs] == ["database-schema-unfit", "database-schema-fits"]
    assert "posthouse db upgrade" in logs[0]["reason"]


@pytest.mark.parametrize(("may_be_away", "events"), [(True, ["database-schema-unfit"]), (False, [])])
def test_only_who_serves_tells_the_log_of_it(logs, may_be_away, events):
    async def test():
        with pytest.raises(TryLater, match="posthouse db upgrade"):
            await CheckedDatabase(Network("0001")).open(may_be_away=may_be_away)

    asyncio.run(test())
    assert [line["event"] for line in logs] == events
