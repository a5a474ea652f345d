"""A full disk, a Maildir not ours to write, a process that dies: 4xx or NO, nothing half done, and on it goes."""

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.interop.sink import Sink
from tests.scenarios.evidence import Disk, compare
from tests.scenarios.machine import CONFIGURATION, Machine, closed_port
from tests.scenarios.readers import log_in
from tests.scenarios.senders import REFUSED, TAKEN, Conversation, Ledger, deliver
from tests.scenarios.test_queue_fairness import wait_until

SMALL, LARGE = 3_000, 190_000
TMPFS_BYTES = 160 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own for the data directory."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a full disk needs root and mount, for a file system of its own")
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "posthouse-test", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def relay_port():
    with closed_port() as port:
        yield port


@contextlib.contextmanager
def full(place: Path, left_bytes: int = 0):
    """No octet is left on that file system meanwhile, or about so many."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    os.truncate(filler, filler.stat().st_size - left_bytes)
    try:
        yield
    finally:
        filler.unlink()


def temporary_files(data: Path) -> list[Path]:
    found = [*data.glob("tmp/*"), *data.glob("queue/tmp/*"), *data.glob("mail/**/tmp/*")]
    return [path for path in found if path.is_file()]


def test_a_full_disk_is_a_452_and_a_no_and_nothing_is_half_done(small_disk, relay_port):
    machine = Machine(small_disk, relay_port=relay_port, workers=1).populate().start()
    try:
        pids = machine.pids()
        ledger = Ledger()
        rng = random.Random(28)
        conversation = Conversation(machine.ports["smtp"])
        imap = log_in(machine.ports["imap"], "carol")
        fill_and_see(machine, ledger, rng, conversation, imap)
        conversation.close()
        imap.logout()
        assert machine.pids() == pids
        assert compare(Disk(machine.data), ledger) == []
        assert machine.stop() == 0
    finally:
        machine.kill()
    # The log lies on that disk too: lines are cut or missing, which must not matter to anybody.
    assert [event for event in machine.log if "exception" in event] == []


def fill_and_see(machine, ledger, rng, conversation, imap):
    everybody = (["alice@example.test"], ["team@example.test"], ["team@example.test", "friend@elsewhere.test"])
    for is_full in (False, True, False, True, False):
        with full(machine.data) if is_full else contextlib.nullcontext():
            for recipients in everybody:
                for size in (SMALL, LARGE):
                    sent = deliver(conversation, ledger, rng, list(recipients), size)
                    if is_full:
                        assert (sent.outcome, sent.reply[:9]) == (REFUSED, "452 4.3.1"), sent
                    else:
                        assert sent.outcome == TAKEN, sent
            for size in (SMALL, LARGE):
                sent, data = ledger.write(rng, frozenset({"carol"}), size)
                status, lines = imap.append("INBOX", None, None, data)
                assert status == ("NO" if is_full else "OK"), lines
                sent.outcome, sent.reply = (REFUSED if is_full else TAKEN), repr(lines)
        assert temporary_files(machine.data) == []
        assert compare(Disk(machine.data), ledger) == []


@pytest.mark.parametrize("left_bytes", [0, 50_000])
@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
def test_a_disk_that_is_full_in_the_middle_of_a_message_is_a_452_at_its_end(small_disk, relay_port, verb, left_bytes):
    """What is begun is taken to its end, thrown away, and the same session goes on."""
    machine = Machine(small_disk, relay_port=relay_port, workers=1).populate().start()
    try:
        half = b"x" * 998 + b"\r\n"
        half *= LARGE // len(half)
        conversation = Conversation(machine.ports["smtp"])
        begin = {"DATA": b"DATA\r\n", "BDAT": b"BDAT %d LAST\r\n" % (2 * len(half))}[verb]
        for is_full in (True, False):
            before = free_bytes(machine.data)
            conversation.say(b"MAIL FROM:<a@load.test>\r\nRCPT TO:<alice@example.test>\r\n" + begin + half)
            for code in ("250", "250", "354") if verb == "DATA" else ("250", "250"):
                conversation.expect(code)
            wait_until(lambda before=before: free_bytes(machine.data) < before - 100_000)
            with full(machine.data, left_bytes) if is_full else contextlib.nullcontext():
                conversation.say(half + (b".\r\n" if verb == "DATA" else b""))
                conversation.expect("452 4.3.1" if is_full else "250 2.0.0")
            if is_full:
                assert not list(machine.data.glob("mail/example.test/alice/new/*"))
        conversation.close()
        assert temporary_files(machine.data) == []
        (message,) = machine.data.glob("mail/example.test/alice/new/*")
        assert message.read_bytes().endswith((2 * half).replace(b"\r\n", b"\n"))
        assert machine.stop() == 0
    finally:
        machine.kill()
    assert [event for event in machine.log if "exception" in event] == []


def free_bytes(place: Path) -> int:
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize


@pytest.fixture
def open_directory():
    """A directory that an unprivileged user of ours may enter."""
    place = Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    place.chmod(0o755)
    yield place
    for directory, _, _ in os.walk(place):
        os.chmod(directory, 0o755)
    shutil.rmtree(place)


def served(machine: Machine) -> Machine:
    """All that it has, made over to the user that it serves as."""
    if os.geteuid() == 0:
        for path in (machine.data, *machine.data.iterdir()):
            shutil.chown(path, "nobody")
    return machine


def test_what_has_gone_out_of_a_queue_that_may_not_be_written_does_not_go_out_again(open_directory):
    """Permission lost in the middle of a delivery, then a crash."""
    with Sink() as sink:
        user = 'user = "nobody"\n' if os.geteuid() == 0 else ""
        waits = "[queue]\nminimum_wait_seconds = 1\nmaximum_wait_seconds = 1\n"
        machine = Machine(open_directory, user + CONFIGURATION + waits, relay_port=sink.port, workers=1)
        served(machine.populate()).start()
        messages = machine.data / "queue" / "messages"
        try:
            conversation = Conversation(machine.ports["smtp"])
            assert conversation.send(["later@far.test", "now@far.test"], b"Subject: hi\r\n\r\n").startswith("250 ")
            conversation.close()
            machine.wait_for("deferred", recipient="later@far.test")
            messages.chmod(0o500)
            sink.is_open = True
            machine.wait_for("queue-not-removed")
            machine.crash()
            before = len(machine.log)
            machine.start()
            wait_until(lambda: any(line["event"] == "queue-not-removed" for line in machine.log[before:]))
            messages.chmod(0o700)
            wait_until(lambda: not any(messages.iterdir()))
            assert [len(sink.taken_for(f"{name}@far.test")) for name in ("now", "later")] == [1, 1]
            assert machine.stop() == 0
        finally:
            machine.kill()
    assert machine.bugs() == []


def test_a_maildir_that_cannot_be_written_is_a_4xx_for_all_recipients_of_the_message(open_directory, relay_port):
    """All or nothing: the sender tries again with all of them."""
    user = 'user = "nobody"\n' if os.geteuid() == 0 else ""
    machine = Machine(open_directory, user + CONFIGURATION, relay_port=relay_port, workers=1)
    served(machine.populate()).start()
    try:
        ledger = Ledger()
        rng = random.Random(13)
        conversation = Conversation(machine.ports["smtp"])
        assert deliver(conversation, ledger, rng, ["team@example.test"], SMALL).outcome == TAKEN
        maildir = machine.data / "mail" / "example.test" / "alice"
        for locked in (maildir / "tmp", maildir / "new"):
            mode = locked.stat().st_mode
            locked.chmod(0o500)
            for size in (SMALL, LARGE):
                sent = deliver(conversation, ledger, rng, ["alice@example.test"], size)
                assert (sent.outcome, sent.reply[:1]) == (REFUSED, "4"), sent
                sent = deliver(conversation, ledger, rng, ["team@example.test", "friend@elsewhere.test"], size)
                assert (sent.outcome, sent.reply[:1]) == (REFUSED, "4"), sent
                assert deliver(conversation, ledger, rng, ["bob@example.test"], size).outcome == TAKEN
            locked.chmod(mode)
            assert deliver(conversation, ledger, rng, ["team@example.test"], LARGE).outcome == TAKEN
        conversation.close()
        assert compare(Disk(machine.data), ledger) == []
        assert temporary_files(machine.data) == []
        assert machine.stop() == 0
    finally:
        machine.kill()
    assert machine.bugs() == []


def test_one_killed_worker_takes_only_its_own_connections_with_it(tmp_path, relay_port):
    machine = Machine(tmp_path, relay_port=relay_port).populate().start()
    try:
        ledger = Ledger()
        rng = random.Random(9)
        killed, survivor = machine.process_of("worker-0"), machine.process_of("worker-1")
        conversations = [Conversation(machine.ports["smtp"]) for _ in range(12)]
        server = [machine.process_at(conversation.local_port) for conversation in conversations]
        while set(server) != {killed, survivor}:
            conversations.append(Conversation(machine.ports["smtp"]))
            server.append(machine.process_at(conversations[-1].local_port))
        for conversation in conversations:
            assert deliver(conversation, ledger, rng, ["team@example.test"], SMALL).outcome == TAKEN
        assert machine.kill_process("worker-0") == killed
        cut = [was_cut(conversation, ledger, rng) for conversation in conversations]
        assert cut == [pid == killed for pid in server]
        machine.wait_for_process("worker-0", other_than=killed)
        assert machine.process_of("worker-1") == survivor
        again = Conversation(machine.ports["smtp"])
        assert deliver(again, ledger, rng, ["alice@example.test"], LARGE).outcome == TAKEN
        again.close()
        assert compare(Disk(machine.data), ledger) == []
        assert machine.stop() == 0
    finally:
        machine.kill()
    assert [event["event"] for event in machine.log if event.get("level") == "error"] == ["process-died"]


def was_cut(conversation, ledger, rng) -> bool:
    """Sends one more; whether the connection was gone."""
    try:
        assert deliver(conversation, ledger, rng, ["alice@example.test"], SMALL).outcome == TAKEN
        return False
    except OSError:
        return True
    finally:
        conversation.close()
