"""mailqueue/spool.py, with a real journal."""

import asyncio
import dataclasses
import os
from datetime import UTC, datetime

import msgspec
import pytest

from posthouse.base.errors import Reply
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.mailqueue.spool import BusyError, CorruptMessageError, Spool
from posthouse.message.envelope import Envelope, Recipient

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RECIPIENT = Recipient(
    "böb@example.org", original="bob@example.org", orcpt="rfc822;bob@example.org", notify=frozenset({"NEVER"})
)
ENVELOPE = Envelope("alice@example.test", (RECIPIENT,), "0trace1", ret="HDRS", envid="e", smtputf8=True)
TEXT = b"Subject: hi\r\n\r\nbody\r\n"


@pytest.fixture
def journal(tmp_path):
    journal = Journal(str(tmp_path / "journal"))
    journal.start()
    yield journal
    journal.close()


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "queue"))
    spool.prepare()
    return spool


def enqueue(spool, journal, envelope=ENVELOPE, text=TEXT, prefix=b"", size=None):
    put = spool.plan(envelope, header_prefix=prefix, now=NOW, content_size=len(text) if size is None else size)
    asyncio.run(journal.commit(Content.of(text), [put]))
    return put.path


OLD_FILES = {
    "without size and login": (
        b'{"envelope":{"sender":"alice@example.test","recipients":[{"address":"bob@example.org"}],"trace_id":"0old"},'
        b'"arrived":1767312000.0}\n'
    ),
    "before REQUIRETLS": (
        b'{"envelope":{"sender":"alice@example.test","recipients":[{"address":"bob@example.org","original":"",'
        b'"orcpt":"","notify":[],"via":""}],"trace_id":"0old","ret":"","envid":"","body":"7BIT","smtputf8":false,'
        b'"login":""},"arrived":1767312000.0,"size_bytes":21}\n'
    ),
    "of a later version": (
        b'{"envelope":{"sender":"alice@example.test","recipients":[{"address":"bob@example.org","original":"",'
        b'"orcpt":"","notify":[],"via":"","later":[1]}],"trace_id":"0old","ret":"","envid":"","body":"7BIT",'
        b'"smtputf8":false,"login":"","tls":"","later":{"a":null}},"arrived":1767312000.0,"size_bytes":21,'
        b'"later":"x"}\n'
    ),
}


@pytest.mark.parametrize("head", OLD_FILES.values(), ids=OLD_FILES)
def test_the_queue_of_another_version_is_read(spool, head):
    """An upgrade, or the way back from one, finds a queue that is not empty."""
    with open(os.path.join(spool.messages, "0old"), "wb") as file:
        file.write(head + TEXT[:21])
    message = spool.load("0old")
    assert message.envelope == Envelope("alice@example.test", (Recipient("bob@example.org"),), "0old")
    assert (message.envelope.tls, message.arrived, message.size_bytes) == ("", NOW.timestamp(), 21)
    with message.open() as file:
        assert file.read() == TEXT[:21]


def test_what_is_written_now_is_read_by_the_version_before_requiretls(spool, journal):
    """Which takes what it has no name for, as its decoder did."""

    class OldEnvelope(msgspec.Struct):
        sender: str
        recipients: tuple[Recipient, ...]
        trace_id: str
        ret: str = ""
        envid: str = ""
        body: str = "7BIT"
        smtputf8: bool = False
        login: str = ""

    class OldHead(msgspec.Struct):
        envelope: OldEnvelope
        arrived: float
        size_bytes: int = -1

    envelope = dataclasses.replace(ENVELOPE, tls="REQUIRED", login="alice@example.test")
    with open(enqueue(spool, journal, envelope), "rb") as file:
        old = msgspec.json.decode(file.readline(), type=OldHead)
    known = {name: getattr(envelope, name) for name in OldEnvelope.__struct_fields__}
    assert old == OldHead(OldEnvelope(**known), NOW.timestamp(), len(TEXT))


@pytest.mark.parametrize(
    "state",
    [
        b'{"recipients":[{"attempts":2,"next_attempt":5.0}]}',
        b'{"recipients":[{"attempts":2,"next_attempt":5.0,"later":{}}],"later":[true]}',
    ],
    ids=["of an earlier version", "of a later version"],
)
def test_a_state_of_another_version_is_read_and_written_on(spool, journal, state):
    enqueue(spool, journal)
    with open(os.path.join(spool.directory, "state", "0trace1"), "wb") as file:
        file.write(state)
    message = spool.load("0trace1")
    assert (message.state.recipients[0].attempts, message.state.recipients[0].next_attempt) == (2, 5.0)
    message.state.hold = True
    spool.save(message)
    assert spool.load("0trace1").state == message.state
    assert corrupt_names(spool) == []


@pytest.mark.parametrize("tls", ["", "REQUIRED", "OPTIONAL"])
def test_what_a_message_asks_of_tls_stays_with_it(spool, journal, tls):
    enqueue(spool, journal, Envelope("a@b.example", (RECIPIENT,), "tls", tls=tls))
    assert spool.load("tls").envelope.tls == tls


def corrupt_names(spool):
    return [name.rsplit(".", 1)[0] for name in sorted(os.listdir(os.path.join(spool.directory, "corrupt")))]


def test_a_message_comes_back_as_it_went_in(spool, journal):
    enqueue(spool, journal, prefix=b"Received: from x\r\n")
    message = spool.load("0trace1")
    assert message.envelope == ENVELOPE
    assert message.arrived == NOW.timestamp()
    with message.open() as file:
        content = file.read()
    assert content == b"Received: from x\r\n" + TEXT
    assert message.size_bytes == len(content)


def test_the_queue_lists_what_it_holds(spool, journal):
    for trace_id in ("a", "b"):
        enqueue(spool, journal, Envelope("", (RECIPIENT,), trace_id))
    assert sorted(spool.names()) == ["a", "b"]


def test_a_spool_that_does_not_exist_yet_is_an_empty_queue(tmp_path):
    assert list(Spool(str(tmp_path / "none")).names()) == []


def test_an_envelope_of_thousands_of_recipients_is_read_whole(spool, journal):
    recipients = tuple(Recipient(f"user{number}@{'x' * 50}.example") for number in range(5000))
    enqueue(spool, journal, Envelope("a@b.example", recipients, "many"))
    assert spool.load("many").envelope.recipients == recipients


def test_a_trace_id_that_is_no_file_name_is_not_planned(spool):
    for trace_id in ("", "../x", "a/b", "x" * 65, "a b"):
        with pytest.raises(ValueError):
            spool.plan(Envelope("", (RECIPIENT,), trace_id), header_prefix=b"", now=NOW)


def test_state_is_remembered(spool, journal):
    enqueue(spool, journal)
    with spool.claim("0trace1") as claim:
        state = claim.message.state.recipients[0]
        state.attempts, state.reply, state.owed = 3, Reply(450, "4.2.0", "later"), "delayed"
        claim.message.state.hold = True
        spool.save(claim.message)
    loaded = spool.load("0trace1").state
    assert loaded == claim.message.state
    assert os.listdir(os.path.join(spool.directory, "tmp")) == []


def test_the_states_of_many_are_written_together(spool, journal):
    for number in range(3):
        enqueue(spool, journal, dataclasses.replace(ENVELOPE, trace_id=f"m{number}"))
    for changed in ([], ["m0"], ["m0", "m1", "m2"]):
        messages = [spool.load(name) for name in changed]
        for message in messages:
            message.state.recipients[0].attempts += 1
        spool.save_all(messages)
    assert [spool.load(f"m{number}").state.recipients[0].attempts for number in range(3)] == [2, 1, 1]
    assert os.listdir(os.path.join(spool.directory, "tmp")) == []


def test_a_message_has_one_claim_at_a_time(spool, journal):
    enqueue(spool, journal)
    with spool.claim("0trace1"), pytest.raises(BusyError):
        spool.claim("0trace1")
    spool.claim("0trace1").release()


def test_a_message_that_was_removed_while_its_lock_was_waited_for_is_gone(spool, journal):
    enqueue(spool, journal)
    with spool.claim("0trace1") as claim:
        spool.save(claim.message)
        asyncio.run(spool.remove(claim.message, journal))
    assert spool.claim("0trace1") is None
    assert spool.load("0trace1") is None
    assert os.listdir(os.path.join(spool.directory, "state")) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no line end",
        b"{}\nx",
        b"\xff\xfe\n",
        b'{"envelope":1,"arrived":0}\n',
        b'{"x":' + b"[" * 60_000 + b"\n",
        b"x" * 200_000,
    ],
    ids=["empty", "torn", "no envelope", "binary", "wrong types", "nested", "long"],
)
def test_a_file_that_is_no_message_is_corrupt_and_set_aside(spool, content):
    path = os.path.join(spool.messages, "foreign")
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(CorruptMessageError):
        spool.load("foreign")
    with pytest.raises(CorruptMessageError):
        spool.claim("foreign")
    spool.set_aside("foreign", "test")
    assert corrupt_names(spool) == ["foreign"]
    assert list(spool.names()) == []


def test_a_message_whose_end_is_missing_is_corrupt(spool, journal):
    path = enqueue(spool, journal)
    os.truncate(path, os.path.getsize(path) - 1)
    with pytest.raises(CorruptMessageError):
        spool.load("0trace1")


def test_a_message_under_another_name_is_corrupt(spool, journal):
    path = enqueue(spool, journal)
    os.rename(path, os.path.join(spool.messages, "other"))
    with pytest.raises(CorruptMessageError):
        spool.load("other")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_regular_file_is_corrupt(spool, make):
    make(os.path.join(spool.messages, "odd"))
    with pytest.raises(CorruptMessageError):
        spool.load("odd")
    spool.set_aside("odd", "test")
    assert corrupt_names(spool) == ["odd"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"recipients":[]}', b'{"recipients":[{"status":"?"}]}'])
def test_a_message_with_a_broken_state_is_tried_anew(spool, journal, content):
    enqueue(spool, journal)
    with open(os.path.join(spool.directory, "state", "0trace1"), "wb") as file:
        file.write(content)
    assert spool.load("0trace1").state.recipients[0].is_pending
    assert corrupt_names(spool) == ["0trace1.state"]


def test_a_state_that_is_no_file_is_set_aside(spool, journal):
    enqueue(spool, journal)
    os.mkdir(os.path.join(spool.directory, "state", "0trace1"))
    assert spool.load("0trace1").state.recipients[0].is_pending
    assert corrupt_names(spool) == ["0trace1.state"]


def test_sweeping_clears_what_crashes_left_behind_and_nothing_else(spool, journal):
    enqueue(spool, journal)
    with spool.claim("0trace1") as claim:
        spool.save(claim.message)
    for name in ("tmp/old", "tmp/new", "state/orphan"):
        with open(os.path.join(spool.directory, name), "wb"):
            pass
    os.utime(os.path.join(spool.directory, "tmp/old"), (0, 0))
    spool.sweep()
    assert os.listdir(os.path.join(spool.directory, "tmp")) == ["new"]
    assert os.listdir(os.path.join(spool.directory, "state")) == ["0trace1"]
    assert list(spool.names()) == ["0trace1"]


def test_waking_is_seen_once(spool):
    spool.wake("a")
    spool.wake("a")
    assert spool.woken() == ["a"]
    assert spool.woken() == []


def test_an_envelope_that_could_not_be_read_again_is_not_planned(spool):
    """It would be acknowledged, and then set aside as corrupt."""
    recipients = tuple([Recipient("x" * 60 + f"{number}@example.org") for number in range(200_000)])
    with pytest.raises(OSError, match="too long an envelope"):
        spool.plan(Envelope("a@example.test", recipients, "0trace1"), header_prefix=b"", now=NOW)
