"""A mail host that begins before its database does: nothing is refused, and nothing has to be started again."""

import imaplib
import os
import signal
import smtplib
import time

import pytest
from tests.databases import USERINFO
from tests.running import RunningServer

PATIENCE_SECONDS = 60.0


@pytest.fixture
def house(new_mariadb, tmp_path):
    """A server, not started, and its database, stopped."""
    database = new_mariadb().start()
    database.create_database("posthouse")
    server = RunningServer(tmp_path, f'[database]\nurl = "mysql://{USERINFO}@{database.address}/posthouse"\n')
    server.cli("db", "init")
    server.cli("domain", "add", "example.test")
    server.add_account("alice@example.test")
    database.stop()
    yield server, database
    server.stop()
    database.kill()


def send(server: RunningServer) -> int:
    """The code that RCPT TO, or else the message, is answered with."""
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=30) as connection:
        connection.ehlo("load.test")
        connection.mail("sender@elsewhere.test")
        code, _ = connection.rcpt("alice@example.test")
        return code if code >= 400 else connection.data("Subject: one\r\n\r\ntext\r\n")[0]


def log_in(server: RunningServer) -> str:
    """What a login is answered with."""
    connection = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30)
    try:
        connection.login("alice@example.test", "secret")
        return "OK"
    except imaplib.IMAP4.error as error:
        return str(error)
    finally:
        connection.logout()


def becomes(said, wanted) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := said()) != wanted:
        assert not isinstance(found, int) or found < 500
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.slow
def test_a_server_begins_without_its_database_and_serves_once_that_is_there(house):
    server, database = house
    server.start()
    server.wait_for("database-unreachable")
    assert 400 <= send(server) < 500
    assert "UNAVAILABLE" in log_in(server)

    _, *processes = server.pids()
    for process in processes:
        os.kill(process, signal.SIGKILL)
    for process in processes:
        server.wait_for("process-died", pid=process)
    becomes(lambda: len(server.pids()), len(processes) + 1)
    assert 400 <= send(server) < 500

    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    assert "directory" in server.wait_for("reload-refused")["reason"]
    assert "no server" in server.wait_for("directory-not-ready")["reason"]

    database.start()
    becomes(lambda: send(server), 250)
    becomes(lambda: log_in(server), "OK")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("reloaded")
    assert send(server) == 250
    assert server.stop() == 0
