"""The session on a server is ours, whatever the server's defaults; passwords, TLS, sockets, limits."""

import asyncio
import contextlib
import os
import re
from dataclasses import replace
from typing import Any

import pytest
import trustme
import uvloop

from posthouse.base.errors import TryLater
from posthouse.config.settings import Database, Settings
from posthouse.directory import mysql, pool
from posthouse.directory import postgresql as module
from posthouse.directory.mysql import MySqlConnection
from posthouse.directory.pool import Login
from posthouse.directory.postgresql import PostgreSqlConnection
from posthouse.directory.servers import Servers

USERINFO = "posthouse:se%2Fcr%40t%20%25"


def answer(settings: Database, test, *, run=asyncio.run) -> Any:
    """What ``test(database)`` returns."""

    async def body():
        database = Servers(replace(Settings(), database=settings))
        await database.open()
        try:
            return await test(database)
        finally:
            await database.close()

    return run(body())


@pytest.fixture(params=["mariadb", "postgresql"])
def server(request):
    """An empty database on a server."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    "mode",
    [
        "NO_BACKSLASH_ESCAPES",
        "ANSI,ORACLE,PAD_CHAR_TO_FULL_LENGTH",
        "ANSI_QUOTES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE",
    ],
)
def test_no_sql_mode_of_the_server_opens_a_door(mariadb, mode):
    hostile = ["' OR 1 = 1 -- ", "\\' OR 1 = 1 -- ", "\\", '" OR 1 = 1 -- ', "\0'"]
    mariadb.execute("CREATE TABLE things (name VARCHAR(50)); INSERT INTO things VALUES ('a')")
    mariadb.execute(f"SET GLOBAL sql_mode = '{mode}'")

    async def body(database):
        for text in hostile:
            assert await database.query("SELECT name FROM things WHERE name = %s", (text,)) == []
            await database.run("INSERT INTO things VALUES (%s)", (text,))
            assert await database.query("SELECT name FROM things WHERE name = %s", (text,)) == [(text,)]

    try:
        answer(Database(url=mariadb.url), body)
    finally:
        mariadb.execute("SET GLOBAL sql_mode = DEFAULT")


@pytest.mark.parametrize("charset", ["latin1", "gbk", "sjis"])
def test_no_character_set_of_the_server_opens_a_door(new_mariadb, charset):
    """An octet that is half a character in GBK swallows the backslash before a quote."""
    options = [f"--character-set-server={charset}", "--skip-character-set-client-handshake"]
    server = new_mariadb(*options).start()
    try:
        server.create_database("ph")
        server.execute(f"CREATE TABLE things (name VARCHAR(50)) CHARACTER SET {charset}", "ph")
        server.execute("INSERT INTO things VALUES ('a')", "ph")

        async def body(database):
            for text in (
                "\u00bf' OR 1 = 1 -- ",
                "縗' OR 1 = 1 -- ",
                "\u00bf\\' OR 1 = 1 -- ",
                "😀",
                "\x81\\' OR 1 = 1 -- ",
            ):
                assert await database.query("SELECT name FROM things WHERE name = %s", (text,)) == []
            assert await database.run("INSERT INTO things VALUES (%s)", ("it's \\",)) == 1
            return await database.query("SELECT name FROM things WHERE name = %s", ("it's \\",))

        assert answer(Database(url=f"mysql://{USERINFO}@{server.address}/ph"), body) == [("it's \\",)]
    finally:
        server.kill()


def test_several_statements_in_one_are_none(mariadb):
    mariadb.execute("CREATE TABLE things (name VARCHAR(50)); INSERT INTO things VALUES ('a')")

    async def body(database):
        with pytest.raises(TryLater, match="syntax"):
            await database.query("SELECT 1; DELETE FROM things")
        return await database.query("SELECT name FROM things")

    assert answer(Database(url=mariadb.url), body) == [("a",)]


def test_octets_that_are_no_text_are_read_with_a_mark_in_mariadb(mariadb):
    mariadb.execute("CREATE TABLE things (name VARBINARY(50)); INSERT INTO things VALUES (x'61ff62'), ('c')")
    rows = answer(Database(url=mariadb.url), lambda database: database.query("SELECT name FROM things"))
    assert rows == [("a�b",), ("c",)]


def test_octets_that_are_no_text_are_read_with_a_mark_in_postgresql(postgresql):
    """A database in the encoding SQL_ASCII holds whatever was put in."""
    name = f"{postgresql.name}_ascii"
    postgresql.execute(f"CREATE DATABASE {name} OWNER posthouse ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    postgresql.server.execute(
        r"CREATE TABLE things (name VARCHAR(50)); INSERT INTO things VALUES (E'a\xffb'), ('c');", name
    )
    postgresql.server.execute("GRANT ALL ON things TO posthouse", name)
    url = postgresql.url.replace(postgresql.name, name)
    rows = answer(Database(url=url), lambda database: database.query("SELECT name FROM things"))
    assert rows == [("a�b",), ("c",)]


def test_the_password_may_be_in_a_file_and_the_server_at_a_socket(server, tmp_path):
    (tmp_path / "password").write_text("se/cr@t %\n")
    socket = f"unix:{server.server.socket}"
    settings = Database(
        url=f"{server.dialect}://posthouse@/{server.name}", hosts=(socket,), password_file=str(tmp_path / "password")
    )
    assert answer(settings, lambda database: database.query("SELECT 1"), run=uvloop.run) == [(1,)]


def test_there_are_never_more_connections_than_allowed(server):
    server.execute("CREATE TABLE things (name VARCHAR(50))")
    count = (
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'posthouse'"
        if server.dialect == "mysql"
        else "SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'posthouse' AND datname = current_database()"
    )

    async def body(database):
        answers = await asyncio.gather(*(database.query(count) for _ in range(200)))
        return max(rows[0][0] for rows in answers)

    assert 1 <= answer(Database(url=server.url, connections=3), body) <= 3


PATIENCE_SECONDS = 30
THINGS = "CREATE TABLE things (name VARCHAR(50))"


def ours(server) -> int:
    """How many connections of ours the server has."""
    count = (
        f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'posthouse' AND db = '{server.name}'"
        if server.dialect == "mysql"
        else f"SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'posthouse' AND datname = '{server.name}'"
    )
    return int(server.server.execute(count).split()[-1])


async def are_at_most(server, most: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(ours, server) > most:
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def locked(server):
    """The table ``things`` is somebody else's."""
    login = Login("", 0, str(server.server.socket), "posthouse", "se/cr@t %", server.name, None)
    if server.dialect == "mysql":
        holder = await MySqlConnection.connect(login)
        await holder.query("LOCK TABLES things WRITE")
    else:
        holder = await PostgreSqlConnection.connect(login)
        await holder.begin()
        await holder.change("LOCK TABLE things")
    try:
        yield
    finally:
        await holder.close()


def test_look_ups_that_a_lock_stops_end_and_leave_nothing_behind_at_the_server(server, monkeypatch):
    """While the lock is still held: the server would go on waiting for clients that have long gone."""
    for driver in (mysql, module):
        monkeypatch.setattr(driver, "LOCK_SECONDS", 1)

    async def body(database):
        await database.run(THINGS)
        async with locked(server):
            with monkeypatch.context() as patch:
                patch.setattr(pool, "ANSWER_SECONDS", (0.1, 0.1, 0.2))
                patch.setattr(pool, "WAIT_SECONDS", 0.1)
                asked = (database.query("SELECT name FROM things") for _ in range(50))
                answers = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(error) for error in answers} == {TryLater}
            await are_at_most(server, 2 + 1)  # with the holder's
        assert await database.query("SELECT name FROM things") == []

    answer(Database(url=server.url, connections=2), body)


def test_no_statement_waits_for_a_lock_longer_than_ten_seconds(server):
    question = "SELECT @@lock_wait_timeout" if server.dialect == "mysql" else "SHOW lock_timeout"
    (rows,) = answer(Database(url=server.url), lambda database: database.query(question))
    assert str(rows[0]).removesuffix("s") == str(pool.LOCK_SECONDS)


def test_postgresql_is_told_of_look_ups_that_were_given_up(postgresql, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 3600)
    monkeypatch.setattr(pool, "ANSWER_SECONDS", (PATIENCE_SECONDS,))
    monkeypatch.setattr(pool, "CONNECT_SECONDS", PATIENCE_SECONDS)
    count = f"SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{postgresql.name}'"

    async def are_waiting(number: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while int((await asyncio.to_thread(postgresql.server.execute, count)).split()[-1]) != number:
                await asyncio.sleep(0.05)

    async def body(database):
        await database.run(THINGS)
        async with locked(postgresql):
            asked = asyncio.create_task(database.query("SELECT name FROM things"))
            await are_waiting(1)
            asked.cancel()
            await are_waiting(0)

    answer(Database(url=postgresql.url), body)


def test_after_hundreds_of_cancelled_look_ups_the_connections_are_as_many_as_allowed(server):
    async def body(database):
        await database.run(THINGS)
        for _ in range(10):
            asked = [asyncio.create_task(database.query("SELECT name FROM things")) for _ in range(20)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        # All of them cancelled while the server is at work.
        async with locked(server):
            asked = [asyncio.create_task(database.query("SELECT name FROM things")) for _ in range(200)]
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await asyncio.to_thread(ours, server) < 1 + 3:
                    await asyncio.sleep(0)
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        answers = await asyncio.gather(*(database.query("SELECT 1") for _ in range(50)))
        assert answers == [[(1,)]] * 50
        await are_at_most(server, 3)

    answer(Database(url=server.url, connections=3), body)


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_a_server_with_fewer_connections_than_ours_is_no_reason_to_fail(request, kind):
    factory = request.getfixturevalue(f"new_{kind}")
    options = ["--max-connections=10"] if kind == "mariadb" else ["--max_connections=6", "--max_wal_senders=0"]
    server = factory(*options).start()
    try:
        server.create_database("ph")
        sleep = "SELECT SLEEP(0.01)" if kind == "mariadb" else "SELECT pg_sleep(0.01)"

        async def body(database):
            await asyncio.gather(*(database.query(sleep) for _ in range(100)))
            return [status.state for status in database.status()]

        url = f"{server.scheme}://{USERINFO}@{server.address}/ph"
        assert answer(Database(url=url, connections=20), body) == ["up"]
    finally:
        server.kill()


@pytest.fixture(params=["mariadb", "postgresql"])
def secure(request, tmp_path):
    """A server that takes only TLS, and the settings to reach it."""
    factory = request.getfixturevalue(f"new_{request.param}")
    server = factory()
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    owner = server.folder.stat()
    certificate.cert_chain_pems[0].write_to_path(server.folder / "certificate.pem")
    certificate.private_key_pem.write_to_path(server.folder / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    os.chown(server.folder / "key.pem", owner.st_uid, owner.st_gid)
    (server.folder / "key.pem").chmod(0o600)
    if request.param == "mariadb":
        server.options += [f"--ssl-cert={server.folder}/certificate.pem", f"--ssl-key={server.folder}/key.pem"]
        server.options += ["--require-secure-transport=ON"]
    else:
        server.options += ["--ssl=on", "--ssl_cert_file=../certificate.pem", "--ssl_key_file=../key.pem"]
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text(re.sub(r"^host\b", "hostssl", rules.read_text(), flags=re.MULTILINE))
    server.start()
    server.create_database("ph")
    yield Database(url=f"{server.scheme}://{USERINFO}@{server.address}/ph", ca=str(tmp_path / "ca.pem"))
    server.kill()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_with_a_ca_connections_are_tls_and_servers_have_to_prove_who_they_are(secure, tmp_path, run):
    encrypted = (
        "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
        if secure.url.startswith("mysql")
        else "SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    assert answer(secure, lambda database: database.query(encrypted), run=run)[0][-1].startswith("TLS_")
    with pytest.raises(TryLater, match=r"certificate|match"):
        answer(replace(secure, url=secure.url.replace("127.0.0.1", "localhost")), lambda database: None, run=run)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with pytest.raises(TryLater, match="certificate"):
        answer(replace(secure, ca=str(tmp_path / "other.pem")), lambda database: None, run=run)
    with pytest.raises(TryLater, match=r"secure|denied|encryption"):
        answer(replace(secure, ca=""), lambda database: None, run=run)
