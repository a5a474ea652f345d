"""cli/queue.py, on a real spool."""

import asyncio
import json
import os
import re
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from posthouse.base.errors import Reply
from posthouse.cli import queue
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.mailqueue.index import Index, Row
from posthouse.mailqueue.spool import Spool
from posthouse.mailqueue.state import Attempt
from posthouse.message.envelope import Envelope, Recipient

ALL_ACTIONS = ["retry", "hold", "release", "delete", "bounce"]


class Queue:
    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.spool = Spool(os.path.join(data_dir, "queue"))
        self.spool.prepare()
        self.journal = Journal(os.path.join(data_dir, "journal"))

    def enqueue(self, trace_id, *recipients, sender="alice@example.test"):
        envelope = Envelope(sender, tuple(map(Recipient, recipients)), trace_id)
        now = datetime.now(UTC) - timedelta(hours=3)
        put = self.spool.plan(envelope, header_prefix=b"", now=now, content_size=3000)
        self.journal.start()
        asyncio.run(self.journal.commit(Content.of(b"x" * 3000), [put]))
        self.journal.close()

    def defer(self, trace_id, seconds=3600):
        with self.spool.claim(trace_id) as claim:
            state = claim.message.state.recipients[0]
            state.attempts, state.remote = 2, "mx.d.example"
            state.next_attempt = datetime.now(UTC).timestamp() + seconds
            state.reply = Reply(450, "4.2.1", "grey\x1b[2Jlisted\nfor now")
            self.spool.save(claim.message)

    def run(self, *arguments, code=0):
        result = CliRunner().invoke(
            queue.app, arguments, env={"POSTHOUSE_DATA": self.data_dir, "POSTHOUSE_CONFIG": ""}
        )
        assert result.exit_code == code, result.output
        return result.output

    def state(self, trace_id):
        return self.spool.load(trace_id).state


@pytest.fixture
def mail(tmp_path):
    return Queue(str(tmp_path))


def test_an_empty_queue_says_so_also_where_there_is_none_yet(mail, tmp_path):
    assert "empty" in mail.run("list")
    mail.data_dir = str(tmp_path / "none")
    assert "empty" in mail.run("list")
    assert json.loads(mail.run("list", "--json")) == []
    assert "empty" in mail.run("retry", "--all")


def test_the_list_shows_who_waits_and_why_oldest_first(mail):
    mail.enqueue("b2", "carol@d.example")
    mail.enqueue("a1", "bob@d.example", "dave@e.example")
    mail.defer("a1", seconds=3650)
    head, bob, dave, carol = mail.run("list").splitlines()
    assert head.startswith("ID")
    assert bob.split()[:5] == ["a1", "3000", "3h", "in", "60m"]
    assert "<alice@example.test> -> <bob@d.example>" in bob
    assert "450 4.2.1 grey" in bob
    assert dave.split() == ["now", "->", "<dave@e.example>"]
    assert carol.startswith("b2 ")


def test_what_a_server_said_cannot_move_the_cursor(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.defer("a1")
    assert "\x1b" not in mail.run("list") + mail.run("show", "a1")


def test_the_list_as_json_has_everything(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.enqueue("a2", "bob@d.example")
    mail.defer("a1")
    first, second = json.loads(mail.run("list", "--json"))
    assert (first["id"], first["size_bytes"], first["sender"], first["hold"]) == (
        "a1",
        3000,
        "alice@example.test",
        False,
    )
    assert first["recipients"][0]["state"] == "deferred"
    assert first["recipients"][0]["remote"] == "mx.d.example"
    assert second["recipients"][0]["state"] == "waiting"


def test_one_message_is_shown_with_all_that_is_known(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.defer("a1")
    text = mail.run("show", "a1")
    for fact in ("<alice@example.test>", "<bob@d.example>", "deferred, attempts: 2", "mx.d.example: 450"):
        assert fact in text
    assert json.loads(mail.run("show", "a1", "--json"))[0]["id"] == "a1"


def test_retry_makes_a_message_due_and_wakes_the_runner(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.defer("a1")
    mail.run("retry", "a1")
    assert mail.state("a1").recipients[0].next_attempt == 0
    assert mail.spool.woken() == ["a1"]


def test_holding_and_releasing(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.enqueue("a2", "bob@d.example")
    mail.run("hold", "a1")
    assert (mail.state("a1").hold, mail.state("a2").hold) == (True, False)
    assert "held" in mail.run("list")
    assert "still on hold" in mail.run("retry", "a1")
    mail.run("release", "--all")
    assert not mail.state("a1").hold


def test_a_deleted_message_is_no_longer_there(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.run("delete", "--all")
    assert mail.state("a1").deleted
    assert "empty" in mail.run("list")
    assert "no such message" in mail.run("release", "a1", code=1)


@pytest.mark.parametrize("action", [*ALL_ACTIONS, "show"])
def test_a_message_that_is_not_there_is_named(mail, action):
    assert "nowhere: no such message" in mail.run(action, "nowhere", code=1)
    assert "not a message" in mail.run(action, "../../etc/passwd", code=1)


@pytest.mark.parametrize("action", [*ALL_ACTIONS, "show"])
def test_which_messages_must_be_said_one_way_or_the_other(mail, action):
    mail.run(action, code=2)
    mail.run(action, "a1", "--all", code=2)


@pytest.mark.parametrize("action", ALL_ACTIONS)
def test_a_message_that_is_being_delivered_is_left_alone(mail, action, monkeypatch):
    monkeypatch.setattr(queue, "PATIENCE_SECONDS", 0.0)
    mail.enqueue("a1", "bob@d.example")
    with mail.spool.claim("a1"):
        assert "being delivered right now" in mail.run(action, "a1", code=1)
    assert mail.spool.woken() == []


def test_what_waits_for_a_destination_that_does_not_answer_is_told(mail):
    """Nobody has tried it, it is due, and the runner will not look at it for ten minutes."""
    mail.enqueue("a1", "bob@d.example")
    mail.enqueue("a2", "bob@d.example")
    index = Index(mail.spool.directory)
    index.open()
    now = datetime.now(UTC).timestamp()
    index.write(
        {"a1": [Row("a1", "smtp:d.example", "", now + 600)], "a2": [Row("a2", "smtp:d.example", "", now - 5)]}
    )
    index.close()
    first, second = mail.run("list").splitlines()[1:]
    assert re.search(r" in [89]m .* its destination does not answer and is left alone$", first)
    assert re.search(r" now +<alice@example.test> -> <bob@d.example>$", second)
    assert "m: its destination does not answer" in mail.run("show", "a1")
    told = {each["id"]: each["recipients"][0] for each in json.loads(mail.run("list", "--json"))}
    assert (told["a1"]["left_alone"], told["a1"]["next_attempt"]) == (True, now + 600)
    assert (told["a2"]["left_alone"], told["a2"]["next_attempt"]) == (False, 0.0)


def test_of_many_those_that_are_free_are_changed(mail, monkeypatch):
    monkeypatch.setattr(queue, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(queue, "TOGETHER", 2)
    for number in range(5):
        mail.enqueue(f"a{number}", "bob@d.example")
    with mail.spool.claim("a1"):
        said = mail.run("hold", "--all", code=1).splitlines()
    assert said.pop() == "a1: is being delivered right now; try again in a moment"
    assert said == [f"a{number}: on hold" for number in (0, 2, 3, 4)]
    assert [mail.state(f"a{number}").hold for number in range(5)] == [True, False, True, True, True]
    assert sorted(mail.spool.woken()) == ["a0", "a2", "a3", "a4"]


def test_what_is_no_message_is_named_and_left_where_it_is(mail):
    with open(os.path.join(mail.spool.messages, "torn"), "wb") as file:
        file.write(b"{")
    mail.enqueue("a1", "bob@d.example")
    text = mail.run("list")
    assert "torn: not a message" in text
    assert "a1" in text
    assert sorted(mail.spool.names()) == ["a1", "torn"]


def three(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.enqueue("a2", "carol@e.example", sender="")
    mail.enqueue("a3", "dave@d.example", sender="bulk@other.test")
    mail.defer("a1")
    mail.run("hold", "a3")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--state", "active"], ["a2"]),
        (["--state", "deferred"], ["a1"]),
        (["--state", "hold"], ["a3"]),
        (["--to", "D.example"], ["a1", "a3"]),
        (["--to", "carol@e.example"], ["a2"]),
        (["--from", "other.test"], ["a3"]),
        (["--from", "<>"], ["a2"]),
        (["--older-than", "2h", "--limit", "2"], ["a1", "a2"]),
        (["--older-than", "4h"], []),
        (["--reason", "GREY"], ["a1"]),
        (["--reason", "grey", "--to", "e.example"], []),
    ],
)
def test_messages_are_chosen_by_what_they_are(mail, options, found):
    three(mail)
    assert [message["id"] for message in json.loads(mail.run("list", "--json", *options))] == found
    said = mail.run("delete", "--dry-run", *options)
    assert [line.partition(":")[0] for line in said.splitlines() if "would be deleted" in line] == found
    assert len(json.loads(mail.run("list", "--json"))) == 3
    mail.run("delete", *options)
    left = [message["id"] for message in json.loads(mail.run("list", "--json"))]
    assert sorted([*left, *found]) == ["a1", "a2", "a3"]


@pytest.mark.parametrize("options", [["--older-than", "soon"], ["--state", "lost"], ["--all", "--state", "hold"]])
def test_a_choice_that_means_nothing_changes_nothing(mail, options):
    three(mail)
    mail.run("delete", *options, code=2)
    assert len(json.loads(mail.run("list", "--json"))) == 3


def test_the_summary_counts_recipients(mail):
    three(mail)
    assert [line.split() for line in mail.run("summary").splitlines()[1:]] == [
        ["2", "3h", "d.example"],
        ["1", "3h", "e.example"],
    ]
    reasons = json.loads(mail.run("summary", "--by", "reason", "--json"))
    assert {row["reason"]: row["recipients"] for row in reasons}["not tried yet"] == 2
    assert len(json.loads(mail.run("summary", "--by", "state", "--json"))) == 3
    mail.run("summary", "--by", "weather", code=2)


def test_a_bounced_message_is_owed_to_its_sender_and_the_runner_is_woken(mail):
    mail.enqueue("a1", "bob@d.example")
    mail.run("hold", "a1")
    mail.spool.woken()
    mail.run("bounce", "a1")
    state = mail.state("a1")
    assert (state.recipients[0].status, state.recipients[0].owed, state.hold) == ("failed", "failed", False)
    assert mail.spool.woken() == ["a1"]


def test_an_exported_message_is_the_message_without_our_line(mail, tmp_path):
    mail.enqueue("a1", "bob@d.example")
    mail.enqueue("a2", "bob@d.example")
    assert mail.run("export", "a1") == "x" * 3000
    mail.run("export", "--all", "--directory", str(tmp_path))
    assert (tmp_path / "a2.eml").read_bytes() == b"x" * 3000
    mail.run("export", "a2", "--directory", str(tmp_path), code=2)


def test_the_history_of_attempts_is_shown(mail):
    mail.enqueue("a1", "bob@d.example")
    with mail.spool.claim("a1") as claim:
        for hour in (1, 2):
            attempt = Attempt(3600.0 * hour, "deferred", "mx.d.example", Reply(450, "4.2.1", f"later {hour}"))
            claim.message.state.remember(0, attempt)
        mail.spool.save(claim.message)
    text = mail.run("show", "a1")
    assert "1970-01-01 01:00:00Z  deferred  mx.d.example: 450 4.2.1 later 1" in text
    assert "02:00:00Z" in text
