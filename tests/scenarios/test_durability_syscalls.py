"""A trace of system calls: no answer that promises something leaves before the sync that it rests on returned."""

import random
import re
import threading

import pytest
from tests.running import PROGRAM
from tests.scenarios.machine import Machine, closed_port
from tests.scenarios.readers import log_in, require
from tests.scenarios.senders import TAKEN, Conversation, Ledger, compose, deliver
from tests.scenarios.syscalls import OPTIONS, Trace, parse

SMALL, LARGE = 2_000, 190_000
SETS_OF_RECIPIENTS = (
    ["alice@example.test"],
    ["team@example.test"],
    ["friend@elsewhere.test"],
    ["team@example.test", "friend@elsewhere.test"],
)


@pytest.fixture
def traced(tmp_path, need):
    """Start a server whose system calls are written down; ``stop`` gives the trace."""
    with closed_port() as port:
        machine = Machine(tmp_path, relay_port=port).populate()
        machine.command = (need("strace"), *OPTIONS, "-o", str(tmp_path / "trace"), PROGRAM)
        yield machine.start()
        machine.kill()


def trace_of(machine) -> Trace:
    assert machine.stop() == 0
    return Trace((machine.directory / "trace").read_text("latin-1"))


def in_threads(count, work):
    failures = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_no_250_leaves_before_the_sync_that_covers_its_message(traced):
    """Several at once, so that many share a sync; small ones through the journal, large ones under their names."""
    ledger = Ledger()

    def session(number):
        rng = random.Random(number)
        conversation = Conversation(traced.ports["smtp"])
        for size in (SMALL, SMALL, LARGE, SMALL):
            for recipients in SETS_OF_RECIPIENTS:
                deliver(conversation, ledger, rng, list(recipients), size)
        conversation.close()

    in_threads(4, session)
    trace = trace_of(traced)
    taken = ledger.taken
    assert len(taken) == 4 * 4 * len(SETS_OF_RECIPIENTS)
    ways = [(sent.id, trace.how_durable(f"X-Load: {sent.id}", trace.sent(sent.reply).begun)) for sent in taken]
    assert [name for name, how in ways if not how] == []
    assert [sum(how == {way} for _, how in ways) for way in ("journal", "file")] == [48, 16]


def test_no_appenduid_and_no_copyuid_leaves_before_message_and_uid_are_on_disk(traced):
    """RFC 4315 §3: the client may rely on the UID from now on."""
    rng = random.Random(4315)
    imap = log_in(traced.ports["imap"], "carol")
    require(imap.create("Archive"))
    answers: list[tuple[str, str]] = []
    for number, size in enumerate([SMALL, LARGE, SMALL, LARGE, SMALL]):
        name = f"a{number:06}"
        answer = require(imap.append("INBOX", None, None, compose(rng, name, size)))
        answers.append((name, re.search(rb"APPENDUID \d+ \d+", answer)[0].decode()))
    require(imap.select("INBOX"))
    require(imap.uid("COPY", "1:3", "Archive"))
    imap.logout()
    trace = trace_of(traced)

    ways = []
    for name, code in answers:
        before = trace.sent(code).begun
        uid = code.split()[-1]
        way = trace.how_durable(f"X-Load: {name}", before)
        lines = trace.written(f"{uid} :", ".segment" if way == {"journal"} else "carol/dovecot-uidlist")
        ways.append(way if any(trace.synced(line.path, line.ended, before) >= 0 for line in lines) else name)
    assert ways == [{"journal"}, {"file"}, {"journal"}, {"file"}, {"journal"}]

    before = trace.sent("COPYUID").begun
    links = list(trace.linked(".Archive/cur"))
    assert len(links) == 3
    for call, path in links:
        assert trace.synced(path, call.ended, before) >= 0, path
        assert trace.synced(path.rpartition("/")[0], call.ended, before) >= 0
    (line,) = trace.written(" :", ".Archive/dovecot-uidlist")
    assert trace.synced(line.path, line.ended, before) >= 0


def test_no_uid_is_told_before_it_stands_in_the_uidlist(traced):
    """UIDs of delivered mail are given by whoever looks first: on disk before UIDNEXT says so."""
    conversation = Conversation(traced.ports["smtp"])
    ledger = Ledger()
    for number in range(3):
        assert deliver(conversation, ledger, random.Random(number), ["alice@example.test"], SMALL).outcome == TAKEN
    conversation.close()
    imap = log_in(traced.ports["imap"], "alice")
    require(imap.select("INBOX"))
    imap.logout()
    trace = trace_of(traced)
    before = trace.sent("[UIDNEXT 4]").begun
    lines = [call for call in trace.written("3 :", "alice/dovecot-uidlist") if "1 :" in call.arguments]
    assert [trace.synced(line.path, line.ended, before) >= 0 for line in lines] == [True]


def test_a_trace_in_which_the_sync_ends_after_the_answer_is_found_out():
    """The rules above can fail: a sync that is under way when the answer leaves covers nothing."""
    journal = 'pwritev(5</j/1.segment>, [{iov_base="X-Load: m1", iov_len=10}], 1, 4096) = 4096'
    sync = "fdatasync(5</j/1.segment>"
    answer = 'sendto(7<socket:[1]>, "250 2.0.0 Ok: t1\\r\\n", 18, 0, NULL, 0) = 18'
    late = [f"2 {journal}", f"2 {sync} <unfinished ...>", f"1 {answer}", "2 <... fdatasync resumed>) = 0"]
    early = [f"2 {journal}", f"2 {sync} <unfinished ...>", "2 <... fdatasync resumed>) = 0", f"1 {answer}"]
    before = [f"2 {sync}) = 0", f"2 {journal}", f"1 {answer}"]
    failed = [f"2 {journal}", f"2 {sync}) = -1 EIO (Input/output error)", f"1 {answer}"]

    def how(lines):
        trace = Trace("\n".join(line.replace(" ", " 12:00:00.000000 ", 1) for line in lines))
        return trace.how_durable("X-Load: m1", trace.sent("250 2.0.0 Ok: t1").begun)

    assert [how(lines) for lines in (early, late, before, failed)] == [{"journal"}, set(), set(), set()]

    ask = "1 io_submit(0x7f, 1, [{aio_lio_opcode=IOCB_CMD_FDSYNC, aio_fildes=5</j/1.segment>, aio_resfd=9<x>}]) = 1"
    told = "1 io_getevents(0x7f, 0, 1, [{data=0, obj=0x7e, res=0, res2=0}], NULL) = 1"
    not_done = told.replace(" res=0,", " res=-5,")
    orders = ([ask, told, f"1 {answer}"], [ask, f"1 {answer}", told], [ask, not_done, f"1 {answer}"])
    assert [how([f"1 {journal}", *lines]) for lines in orders] == [{"journal"}, set(), set()]
    with pytest.raises(ValueError, match="line 0"):
        parse("no trace at all")
