"""What needs no server: URLs, names, and what errors mean."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest
from asyncmy import errors

from posthouse.base.errors import TryLater
from posthouse.config.settings import Database, Settings
from posthouse.directory import failures, mysql, postgresql
from posthouse.directory.servers import Servers


def servers(url: str, *hosts: str) -> Servers:
    return Servers(replace(Settings(), database=Database(url=url, hosts=hosts)))


@pytest.mark.parametrize(
    ("url", "hosts", "name"),
    [
        ("mysql://u:secret@db/mail", (), "mysql mail on db"),
        ("mysql://u:secret@db:3307/mail", (), "mysql mail on db:3307"),
        ("postgresql://u@[2001:db8::1]:5432/mail", (), "postgresql mail on [2001:db8::1]:5432"),
        ("mysql://u@db/mail", ("a", "b:3307", "unix:/run/x"), "mysql mail on a, b:3307, unix:/run/x"),
    ],
)
def test_a_database_is_called_by_its_servers_and_without_its_password(url, hosts, name):
    assert servers(url, *hosts).name == name


@pytest.mark.parametrize("url", ["mysql://u:secret@db:x/mail", "oracle://u:secret@db/mail"])
def test_a_url_that_can_not_be_is_told_without_its_password(url):
    with pytest.raises(TryLater) as caught:
        servers(url)
    assert "secret" not in caught.value.reason
    assert "/mail" in caught.value.reason


def test_before_it_is_opened_nothing_is_found():
    async def body():
        database = servers("mysql://u@127.0.0.1/mail")
        with pytest.raises(TryLater, match="not opened"):
            await database.query("SELECT 1")

    asyncio.run(body())


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (errors.OperationalError(1047, "WSREP has not yet prepared node"), failures.Unusable),
        (errors.OperationalError(1213, "Deadlock found"), failures.Again),
        (errors.OperationalError(1205, "Lock wait timeout exceeded"), failures.Again),
        (errors.OperationalError(1290, "running with the --read-only option"), failures.ReadOnly),
        (errors.OperationalError(1290, "running with the --secure-file-priv option"), failures.Wrong),
        (errors.OperationalError(1836, "Running in read-only mode"), failures.ReadOnly),
        (errors.OperationalError(2006, "gone away"), failures.Lost),
        (errors.OperationalError(2013, "lost connection"), failures.Lost),
        (errors.OperationalError(1040, "Too many connections"), failures.Full),
        (errors.InterfaceError(0, "Not connected"), failures.Lost),
        (errors.IntegrityError(1062, "Duplicate entry"), failures.Violated),
        (errors.ProgrammingError(1146, "no such table"), failures.Wrong),
        (ConnectionRefusedError(111, "refused"), failures.Lost),
        (errors.OperationalError(1366, "Incorrect string value"), failures.Inexpressible),
    ],
    ids=str,
)
def test_what_mysql_errors_mean(error, meaning):
    assert type(mysql._failure(error)) is meaning


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.AdminShutdownError("terminating"), failures.Lost),
        (asyncpg.CannotConnectNowError("starting up"), failures.Unusable),
        (asyncpg.TooManyConnectionsError("sorry"), failures.Full),
        (asyncpg.ReadOnlySQLTransactionError("read-only"), failures.ReadOnly),
        (asyncpg.SerializationError("again"), failures.Again),
        (asyncpg.DeadlockDetectedError("deadlock"), failures.Again),
        (asyncpg.StatementCompletionUnknownError("who knows"), failures.Lost),
        (asyncpg.LockNotAvailableError("lock timeout"), failures.Again),
        (asyncpg.UniqueViolationError("twice"), failures.Violated),
        (asyncpg.UndefinedTableError("no such table"), failures.Wrong),
        (asyncpg.CharacterNotInRepertoireError("0x00"), failures.Inexpressible),
        (asyncpg.ConnectionDoesNotExistError("gone"), failures.Lost),
        (asyncpg.InterfaceError("closed"), failures.Lost),
        (ConnectionResetError(), failures.Lost),
    ],
    ids=repr,
)
def test_what_postgresql_errors_mean(error, meaning):
    assert type(postgresql._failure(error)) is meaning
