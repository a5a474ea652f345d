"""One running Posthouse for all interop tests; each test has accounts of its own."""

import itertools
import sqlite3
from contextlib import closing

import pytest
from tests.interop.house import House
from tests.interop.sink import Sink


@pytest.fixture(scope="session")
def sink():
    """The mail server of everybody else."""
    with Sink() as running:
        yield running


@pytest.fixture(scope="session")
def house(tmp_path_factory, sink):
    """A server for example.test that relays all outgoing mail to ``sink``. It must come to the end without a bug."""
    running = House(tmp_path_factory.mktemp("house"), f'[smtp]\nrelayhost = "[127.0.0.1]:{sink.port}"\n')
    running.cli("domain", "add", "example.test")
    running.start()
    yield running
    code = running.stop()
    mistakes = [
        line for line in running.log if line.get("level") in ("error", "critical") or line["event"] == "not-json"
    ]
    assert (code, mistakes) == (0, [])


_numbers = itertools.count(1)


@pytest.fixture
def account(house):
    """Makes a new account in ``house`` by SQL, as operators do, with the password ``secret``; its address."""

    def make(name: str = "user") -> str:
        user = f"{name}{next(_numbers)}"
        with closing(sqlite3.connect(house.data / "posthouse.db", timeout=30)) as database, database:
            row = (f"{user}@example.test", "secret", f"example.test/{user}/")
            database.execute("INSERT INTO users (email, clear, maildir) VALUES (?, ?, ?)", row)
        return f"{user}@example.test"

    return make


@pytest.fixture
def alice(account):
    """Somebody with an empty mailbox."""
    return account("alice")


@pytest.fixture
def bob(account):
    """Somebody else."""
    return account("bob")
