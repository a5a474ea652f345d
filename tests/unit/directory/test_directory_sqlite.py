"""The SQLite directory: adoption, freshness, transactions, logins, and databases that can't be used."""

import asyncio
import os
import sqlite3

import pytest
import sqlalchemy

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.settings import Database, Settings
from posthouse.directory import directory as module
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.directory.queries import Kind
from posthouse.directory.schema import FIVE

_NO = Reply(550, "5.0.0", "no")


def opened(tmp_path, **settings):
    directory = Directory(Settings(hostname="mx.host.test", data_dir=str(tmp_path / "data"), **settings))
    asyncio.run(directory.open())
    return directory


@pytest.fixture
def directory(tmp_path):
    made = opened(tmp_path)
    yield made
    asyncio.run(made.close())


def run(coroutine):
    return asyncio.run(coroutine)


async def write(directory, *statements):
    async def work(tables):
        for statement in statements:
            await tables.execute(sqlalchemy.text(statement))
        await tables.audit("write", "rows")

    await directory.change(Actor("test"), work)


def test_a_new_database_is_nobody_else_s_business(directory):
    assert os.stat(os.path.dirname(directory.database.path)).st_mode & 0o777 == 0o700
    assert os.stat(directory.database.path).st_mode & 0o777 == 0o600


def test_no_database_is_made_through_a_link(tmp_path):
    """Root's command line would make it wherever the serving user likes, and that user's."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/posthouse.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TryLater, match="File exists"):
        opened(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_the_five_tables_have_exactly_the_columns_of_the_contract(directory):
    for table, columns in ((table.name, table.c.keys()) for table in FIVE):
        found = directory.database.connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        assert [row[1] for row in found] == columns


def test_every_question_is_answered_by_an_index(directory):
    statements, keys = directory._statements, ["user+x@a.test", "user@a.test", "user", "@a.test"]
    asked = [statements.find([(kind, keys)]) for kind in Kind]
    asked += [(statements.credentials(), keys[:1] * 5)]
    for sql, parameters in asked:
        plan = directory.database.connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        assert not [row for row in plan if "SCAN" in row[3] and "CONSTANT" not in row[3]], sql


def test_tables_that_are_there_already_are_adopted_as_they_are(tmp_path):
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE users (id INT, email VARCHAR(128), clear VARCHAR(128), name TINYTEXT, uid INT, gid INT,"
        " homedir TINYTEXT, maildir TINYTEXT, quota TINYTEXT, postfix CHAR(1), extra TEXT)"
    )
    old.execute(
        "INSERT INTO users VALUES (1, 'Old@A.test', 'secret', NULL, 1001, 1001, NULL, 'a/old/', NULL, 'Y', 'e')"
    )
    old.commit()
    before = old.execute("SELECT sql FROM sqlite_master WHERE name = 'users'").fetchone()
    directory = opened(tmp_path, database=Database(f"sqlite:{path}"))
    account = run(directory.account("old@a.test"))
    assert (account.maildir, account.enabled, account.quota) == ("a/old/", True, "")
    assert run(directory.credentials("OLD@a.test")).clear == "secret"
    assert old.execute("SELECT sql FROM sqlite_master WHERE name = 'users'").fetchone() == before
    old.close()
    run(directory.close())


def test_a_row_that_another_program_changes_is_seen_by_the_next_look(directory, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    with pytest.raises(Refused):
        run(write_and_resolve(directory))
    other = sqlite3.connect(directory.database.path)
    other.execute("INSERT INTO virtual (email, destination) VALUES ('bob@a.test', 'x@e.test')")
    other.commit()
    assert len(run(directory.resolve("bob@a.test")).destinations) == 1
    other.execute("DELETE FROM virtual")
    other.commit()
    other.close()
    with pytest.raises(Refused):
        run(directory.resolve("bob@a.test"))


async def write_and_resolve(directory):
    await write(directory, "INSERT INTO transport (domain, destination) VALUES ('a.test', 'virtual:')")
    await directory.resolve("bob@a.test")


def test_a_change_that_fails_leaves_nothing_behind(directory):
    async def fail(tables):
        await tables.audit("domain add", "a.test")
        await tables.add("transport", "a.test", "virtual:")
        assert await tables.is_hosted("a.test")
        raise Refused(_NO, "no")

    with pytest.raises(Refused):
        run(directory.change(Actor("test"), fail))
    assert not run(directory.is_hosted("a.test"))
    assert directory.database.connection.execute("SELECT count(*) FROM posthouse_audit").fetchone() == (0,)


def test_a_change_is_audited_and_counts_the_version_up(directory):
    (before,) = directory.database.connection.execute("SELECT version FROM posthouse_state").fetchone()
    run(write(directory))
    rows = directory.database.connection.execute("SELECT who, what, object FROM posthouse_audit").fetchall()
    assert rows == [("test", "write", "rows")]
    assert directory.database.connection.execute("SELECT version FROM posthouse_state").fetchone() == (before + 1,)


def test_a_login_may_send_as_itself_and_what_leads_to_it(directory):
    run(
        write(
            directory,
            "INSERT INTO transport (domain, destination) VALUES ('a.test', 'virtual:')",
            "INSERT INTO users (email, maildir) VALUES ('bob@a.test', 'a/bob/'), ('eve@a.test', 'a/eve/')",
            "INSERT INTO virtual (email, destination) VALUES ('sales@a.test', 'bob@a.test,eve@a.test'),"
            " ('boss@a.test', 'eve@a.test'), ('bob@gmail.test', 'bob@a.test')",
        )
    )
    allowed = {
        sender: run(directory.may_send_as("Bob@a.test", sender))
        for sender in (
            "BOB@a.test",
            "bob+x@a.test",
            "sales@a.test",
            "boss@a.test",
            "eve@a.test",
            "x@e.test",
            "no@a.test",
        )
    }
    assert [sender for sender, may in allowed.items() if may] == ["BOB@a.test", "bob+x@a.test", "sales@a.test"]
    assert not run(directory.may_send_as("bob@a.test", "bob@gmail.test"))


def test_an_unknown_login_has_no_credentials(directory):
    assert run(directory.credentials("nobody@a.test")) is None
    assert run(directory.account("nobody@a.test")) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a database, but long enough to be looked at " * 40, "not a database"), (None, "newer Posthouse")],
)
def test_a_database_that_can_t_be_used_is_our_trouble(tmp_path, content, said):
    path = tmp_path / "bad.db"
    if content:
        path.write_bytes(content)
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    with pytest.raises(TryLater, match=said):
        opened(tmp_path, database=Database(f"sqlite:{path}"))


def test_a_table_without_a_column_is_named(tmp_path):
    connection = sqlite3.connect(tmp_path / "odd.db")
    connection.execute("CREATE TABLE relocated (id INT, email TEXT)")
    connection.close()
    with pytest.raises(TryLater, match="table relocated has no column destination"):
        opened(tmp_path, database=Database(f"sqlite:{tmp_path}/odd.db"))


def test_a_look_up_without_a_database_is_our_trouble(directory):
    run(directory.close())
    with pytest.raises(TryLater):
        run(directory.resolve("bob@a.test"))


def test_rows_that_are_wrong_are_looked_at_once_until_the_file_changes(directory):
    asked = []
    directory._clock = lambda: 1_000.0 + len(asked)  # each question takes longer than the file is believed
    directory.database.connection.set_trace_callback(asked.append)
    other = sqlite3.connect(directory.database.path, isolation_level=None)
    rows = [(f"n{i}@mx.host.test", f"n{i + 1}@mx.host.test") for i in range(200)]
    other.executemany("INSERT INTO virtual (email, destination) VALUES (?, ?)", rows)
    for _ in range(3):
        with pytest.raises(TryLater, match="nested deeper"):
            run(directory.resolve("n0@mx.host.test"))
    assert sum("virtual" in sql for sql in asked) < 2 * 101
    other.execute("DELETE FROM virtual")
    other.close()
    with pytest.raises(Refused):
        run(directory.resolve("n0@mx.host.test"))
