"""What is changed about mail on its way in, with swaks, a sink, and a Postfix with the same maps beside it."""

import re
import tempfile
from pathlib import Path

import pytest
from tests.interop.house import House, run, until, without_trace
from tests.interop.postfix import Postfix
from tests.interop.sink import Sink

ALICE, BOB = "alice@example.test", "bob@example.test"
FILES = {
    "senders": "alice@example.test Alice.Liddell@example.test\n@.example.test @example.test\n",
    "recipients": "robert@example.test bob@example.test\n@old.example @new.example\n",
    "sender_bcc": "Alice.Liddell@example.test from@archive.example\n",
    "recipient_bcc": "bob@example.test to@archive.example\n",
    "checks": r"""
/^Subject: (.*)secret/ REPLACE Subject: $1[gone]
/^X-Originating-IP:/ IGNORE
/^Subject: bad/ REJECT 5.7.9 not that
/^Subject: wait/ HOLD
/^Subject: junk/ DISCARD
""",
    "access": "holding@far.example HOLD to be looked at\n",
}
POSTFIX = """\
relayhost = [127.0.0.1]:{port}
local_header_rewrite_clients = permit_mynetworks
sender_canonical_maps = inline:{{ {{ alice@example.test = Alice.Liddell@example.test }} }}
recipient_canonical_maps = inline:{{ {{ @old.example = @new.example }} }}
masquerade_domains = example.test
masquerade_classes = envelope_sender, header_sender
always_bcc = all@archive.example
sender_bcc_maps = inline:{{ {{ Alice.Liddell@example.test = from@archive.example }} }}
"""


@pytest.fixture(scope="module")
def rewriting(tmp_path_factory):
    """A server with all of ``[rewrite]``, the sink behind it, and another one for one sender's mail."""
    with Sink() as sink, Sink() as other:
        running = House(
            tmp_path_factory.mktemp("rewriting"),
            f"""
[smtp]
relayhost = "[127.0.0.1]:{sink.port}"
mynetworks = ["127.0.0.0/8"]
sender_restrictions = ["check_sender_access access"]
[relays.other]
host = "[127.0.0.1]:{other.port}"
senders = ["bob@example.test"]
[rewrite]
sender_canonical = "senders"
recipient_canonical = "recipients"
always_bcc = "all@archive.example"
sender_bcc = "sender_bcc"
recipient_bcc = "recipient_bcc"
header_checks = "checks"
""",
        )
        running.data.mkdir()
        for name, text in FILES.items():
            (running.data / name).write_text(text)
        running.cli("domain", "add", "example.test")
        running.add_account(BOB)
        running.start()
        running.sink, running.other = sink, other
        yield running
        code = running.stop()
        assert (code, [line for line in running.log if line.get("level") == "error"]) == (0, [])


@pytest.fixture
def directory():
    """One that Postfix's user may enter."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def swaks(need, rewriting):
    def swaks(*arguments: str, subject: str = "hello", code: int = 0) -> str:
        server = f"127.0.0.1:{rewriting.ports['smtp']}"
        return run(need("swaks"), "--server", server, "--header", f"Subject: {subject}", *arguments, code=code)

    return swaks


def addresses(paths) -> set[str]:
    return {re.search("<([^>]*)>", path)[1] for path in paths}


def test_addresses_become_canonical_and_copies_are_made_as_postfix_does(need, rewriting, swaks, directory):
    need("postfix")
    arguments = (
        "--from",
        ALICE,
        "--to",
        "carol@old.example,dave@www.example.test.example",
        "--h-From",
        "A <alice@example.test>",
    )
    arguments += ("--h-To", "carol@old.example", "--header", "Reply-To: root@www.example.test")

    def seen(sink):
        taken = until(lambda: sink.taken_for("from@archive.example"))[0]
        fields = re.findall(rb"^(?:From|To|Reply-To): .*", taken.data, re.MULTILINE)
        return addresses([taken.sender]), addresses(taken.recipients), sorted(field.strip() for field in fields)

    swaks(*arguments)
    ours = seen(rewriting.sink)
    with Sink() as sink, Postfix(directory / "postfix", POSTFIX.format(port=sink.port)) as postfix:
        run(need("swaks"), "--server", f"127.0.0.1:{postfix.port}", *arguments)
        assert seen(sink) == ours
    assert ours == (
        {"Alice.Liddell@example.test"},
        {"carol@new.example", "dave@www.example.test.example", "all@archive.example", "from@archive.example"},
        [b"From: A <Alice.Liddell@example.test>", b"Reply-To: root@example.test", b"To: carol@new.example"],
    )


def test_a_copy_of_what_is_delivered_here_is_told_nowhere(rewriting, swaks):
    swaks("--from", "x@far.example", "--to", "robert@example.test", subject="for bob")
    (message,) = until(lambda: rewriting.messages(BOB))
    assert b"archive.example" not in message
    assert b"\r\nSubject: for bob\r\n" in without_trace(message)
    (taken,) = until(lambda: rewriting.sink.taken_for("to@archive.example"))
    assert addresses(taken.recipients) == {"to@archive.example", "all@archive.example"}
    assert all("NOTIFY=NEVER" in recipient for recipient in taken.recipients)


def test_a_sender_has_a_relayhost_of_its_own(rewriting, swaks):
    swaks("--from", BOB, "--to", "them@far.example", subject="by the other")
    assert until(lambda: rewriting.other.taken_for("them@far.example"))


def test_header_checks_change_refuse_and_discard(rewriting, swaks):
    ours = ("--from", "y@far.example", "--to", "checked@far.example")
    swaks(*ours, "--header", "X-Originating-IP: 192.0.2.1", subject="this is secret")
    (taken,) = until(lambda: rewriting.sink.taken_for("checked@far.example"))
    assert b"\r\nSubject: this is [gone]\r\n" in taken.data
    assert b"X-Originating-IP" not in taken.data
    assert "550 5.7.9 not that" in swaks(*ours, subject="bad", code=26)
    assert "250 2.0.0 Ok" in swaks(*ours, subject="junk")
    rewriting.wait_for("discarded", sender="y@far.example")
    assert len(rewriting.sink.taken_for("checked@far.example")) == 1


@pytest.mark.parametrize(("sender", "subject"), [("z@far.example", "wait"), ("holding@far.example", "hello")])
def test_what_is_held_goes_on_when_it_is_released(rewriting, swaks, sender, subject):
    to = f"held.{subject}@far.example"
    swaks("--from", sender, "--to", to, subject=subject)
    (held,) = [message for message in rewriting.queue() if sender in str(message)]
    assert held["hold"] is True
    rewriting.cli("queue", "release", held["id"])
    assert until(lambda: rewriting.sink.taken_for(to))
