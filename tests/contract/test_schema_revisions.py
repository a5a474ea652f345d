"""The schema's revisions on real servers: what they make, forward, back, interrupted, at once; what a start asks."""

import asyncio
import re
from dataclasses import replace

import pytest
import sqlalchemy
from tests.databases import run

from posthouse.base.errors import Refused, TryLater
from posthouse.config.settings import Database, Settings
from posthouse.directory import migrations, version
from posthouse.directory.schema import metadata
from posthouse.services import adoption


@pytest.fixture(params=["mariadb", "postgresql"])
def served(request):
    """An empty database on a server."""
    return request.getfixturevalue(request.param)


def settings_of(database):
    return Settings(hostname="mail.example.test", database=Database(url=database.url))


def definitions(database):
    """Each table's definition as the server writes it, but for the version table."""
    if database.dialect == "mysql":
        tables = database.execute("SHOW TABLES").split()
        made = {table: database.execute(f"SHOW CREATE TABLE `{table}`") for table in tables}
        made.pop(version.VERSION_TABLE, None)
        return made
    where = (f"--host={database.server.folder}", f"--port={database.server.port}", "--username=postgres")
    exclude = f"--exclude-table={version.VERSION_TABLE}"
    dump = run("pg_dump", "--schema-only", "--no-owner", exclude, *where, database.name)
    return [line for line in dump.splitlines() if not re.match(r"--|\\|$", line)]


def metadata_as_sql(dialect):
    statements = []
    engine = sqlalchemy.create_mock_engine(
        f"{dialect}://", lambda statement, *_, **__: statements.append(str(statement.compile(dialect=engine.dialect)))
    )
    metadata.create_all(engine, checkfirst=False)
    return ";".join(statements)


class Interrupted(Exception):
    pass


class DyingSession(migrations.OverTransaction):
    """A session that ends after some statements."""

    def __init__(self, transaction, statements):
        super().__init__(transaction)
        self.left = statements

    async def run(self, sql):
        if self.left == 0 and not sql.startswith("SET sql_notes"):
            raise Interrupted
        self.left -= not sql.startswith("SET sql_notes")
        await super().run(sql)


async def interrupted(settings, target, statements):
    """Whether it was, after so many statements."""
    async with adoption.opened(settings) as database:
        try:
            await database.transaction(
                lambda transaction: migrations.migrate(DyingSession(transaction, statements), target, version.FIVE)
            )
        except Interrupted:
            return True
        return False


def test_all_revisions_together_make_what_the_metadata_says(served):
    name, made = asyncio.run(adoption.init(settings_of(served)))
    assert served.name in name
    assert made == sorted(metadata.tables)
    expected = served.server.new_database()
    expected.execute(metadata_as_sql(served.dialect))
    assert definitions(served) == definitions(expected)
    assert asyncio.run(adoption.init(settings_of(served)))[1] == []


def test_going_back_and_forward_again_ends_where_it_began_and_keeps_the_five_tables(served):
    settings = settings_of(served)
    asyncio.run(adoption.init(settings))
    served.execute("INSERT INTO users (email, clear) VALUES ('bob@a.test', 'geheim')")
    served.execute("INSERT INTO users (email) VALUES ('Eve@a.test')")
    served.execute("INSERT INTO posthouse_credentials VALUES ('bob@a.test', 'x', ''), ('eve@a.test', '', 'x')")
    before = definitions(served)
    move = asyncio.run(adoption.plan_move(settings, "base"))
    assert move.passwords == 1
    assert [revision for revision, _ in move.steps] == ["0002", "0001", "base"]
    assert ("posthouse_domains", 0) in move.losses
    assert ("posthouse_state", 1) in move.losses
    asyncio.run(adoption.move(settings, "base"))
    assert set(asyncio.run(tables_of(settings))) == set(version.FIVE)
    kept = served.execute("SELECT email, clear FROM users WHERE clear IS NOT NULL").split()
    assert kept == ["bob@a.test", "geheim"]
    asyncio.run(adoption.move(settings))
    assert definitions(served) == before


def test_a_migration_that_was_interrupted_anywhere_is_finished_by_the_next(served):
    """MariaDB commits each statement that defines something, so half a migration stays."""
    expected = served.server.new_database()
    expected.execute(metadata_as_sql(served.dialect))
    statements = 0
    database = served
    while asyncio.run(interrupted(settings_of(database), "0003", statements)):
        settings = settings_of(database)
        with pytest.raises(TryLater, match="posthouse db"):
            asyncio.run(checked(settings))
        asyncio.run(adoption.init(settings))
        assert definitions(database) == definitions(expected)
        asyncio.run(interrupted(settings, "base", statements))
        asyncio.run(adoption.move(settings, "base"))
        statements += 3
        database = served.server.new_database()
    assert statements > 9


async def tables_of(settings):
    async with adoption.opened(settings) as database:
        return await version.tables(database)


async def checked(settings):
    async with adoption.opened(settings) as database:
        await version.check(database)


def test_of_two_who_migrate_at_once_one_is_told_to_wait(served):
    settings = settings_of(served)

    async def both():
        is_held, may_end = asyncio.Event(), asyncio.Event()

        class Slow(migrations.OverTransaction):
            async def run(self, sql):
                is_held.set()
                await may_end.wait()
                await super().run(sql)

        async with adoption.opened(settings) as database:
            first = asyncio.create_task(
                database.transaction(lambda transaction: migrations.migrate(Slow(transaction), "0003", version.FIVE))
            )
            await is_held.wait()
            with pytest.raises(TryLater, match="somebody else is changing"):
                await adoption.init(settings)
            may_end.set()
            await first
        await checked(settings)

    asyncio.run(both())


def test_what_a_start_says_of_a_schema_that_does_not_fit(database, tmp_path):
    settings = database
    if settings.database.url.startswith("sqlite:"):
        (tmp_path / "posthouse.db").touch()

    def reason():
        with pytest.raises(TryLater) as told:
            asyncio.run(checked(settings))
        return told.value.reason

    assert "is empty: 'posthouse db init'" in reason()
    asyncio.run(adoption.init(settings))
    asyncio.run(checked(settings))
    asyncio.run(adoption.move(settings, "0001"))
    assert reason().endswith("has schema 0001, this Posthouse needs 0003: 'posthouse db upgrade'")
    asyncio.run(adoption.move(settings, "base"))
    assert "'posthouse db adopt' takes them over" in reason()
    with pytest.raises(Refused, match="there is no schema revision '0815'"):
        asyncio.run(adoption.move(settings, "0815"))


def test_tables_that_the_configuration_names_otherwise_are_not_made(database):
    other = replace(database.database, users=replace(database.database.users, table="accounts"))
    settings = replace(database, database=other)
    _, made = asyncio.run(adoption.init(settings))
    assert "virtual" in made
    assert "users" not in made
