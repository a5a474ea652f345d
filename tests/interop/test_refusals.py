"""swaks hears every refusal that needs no list: the reply, what the log says of it, what explain foretells."""

import sqlite3
from contextlib import closing

import pytest
from tests.interop.house import House, run

ALICE = "alice@example.test"
TABLES = """
INSERT INTO relocated (email, destination) VALUES ('moved@example.test', 'new@far.example');
INSERT INTO transport (domain, destination) VALUES ('closed.test', 'error:5.1.1 closed for good');
INSERT INTO transport (domain, destination) VALUES ('later.test', 'retry:4.4.1 closed today');
INSERT INTO users (email, clear, maildir, quota) VALUES ('full@example.test', 'secret', 'example.test/full/', '10');
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    running = House(tmp_path_factory.mktemp("refusing"), "[smtp]\nmax_size_bytes = 20000\n", workers=1)
    running.cli("domain", "add", "example.test")
    running.add_account(ALICE)
    with closing(sqlite3.connect(running.data / "posthouse.db")) as database:
        database.executescript(TABLES)
    running.start()
    yield running
    code = running.stop()
    assert (code, [line for line in running.log if line.get("level") == "error"]) == (0, [])


RECIPIENTS = {
    "nobody@example.test": ("550 5.1.1 No such mailbox here", "refused"),
    "moved@example.test": ("550 5.1.6 User has moved to new@far.example", "refused"),
    "a@closed.test": ("550 5.1.1 closed for good", "refused"),
    "a@later.test": ("450 4.4.1 closed today", "deferred-at-door"),
    "a@elsewhere.example": ("554 5.7.1 Relay access denied", "refused"),
}


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_a_recipient_is_refused_as_explained_and_logged(need, house, recipient):
    reply, event = RECIPIENTS[recipient]
    server = f"127.0.0.1:{house.ports['smtp']}"
    assert f"<** {reply}" in run(
        need("swaks"), "--server", server, "--from", "a@x.example", "--to", recipient, code=24
    )
    line = house.wait_for(event, recipient=recipient, sender="a@x.example", peer="127.0.0.1")
    assert line["reply"].startswith(reply)
    assert line["reason"]
    asked = ("--client=127.0.0.1", "--helo=x.example", "--from=a@x.example", f"--to={recipient}")
    said = house.cli("smtp", "explain", *asked, check=False)
    assert said.returncode == 1
    assert reply in said.stdout


MESSAGES = [
    ("--header", "X: y", ["--body", "x" * 30_000], "552 5.3.4 Message is larger"),
    ("--add-header", "\\n".join(["Received: by a"] * 101), [], "554 5.4.6 Too many hops"),
]


@pytest.mark.parametrize(("option", "value", "more", "reply"), MESSAGES)
def test_a_message_is_refused_at_its_end(need, house, option, value, more, reply):
    server = f"127.0.0.1:{house.ports['smtp']}"
    line = [need("swaks"), "--server", server, "--from", "a@x.example", "--to", ALICE, option, value, *more]
    assert f"<** {reply}" in run(*line, code=26)
    assert house.messages(ALICE) == []


def test_a_mailbox_that_is_full_is_tried_again(need, house):
    server = f"127.0.0.1:{house.ports['smtp']}"
    line = [need("swaks"), "--server", server, "--from", "a@x.example", "--to", "full@example.test"]
    run(*line, code=0)  # what makes it full
    assert "<** 452 4.2.2 " in run(*line, code=24)
    assert "quota" in house.wait_for("deferred-at-door", recipient="full@example.test")["reason"]
