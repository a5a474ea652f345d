"""kill -9 of the supervisor and all its processes, at random moments, while mail comes in.

Promise 1: what got its 250 is there, whole. Promise 2: no UID changes.
"""

import os
import random
import threading
import time

import pytest
from tests.scenarios.evidence import Disk, compare
from tests.scenarios.machine import ACCOUNTS, Machine, closed_port
from tests.scenarios.readers import MAILBOXES, Memory, Reader, log_in, require
from tests.scenarios.senders import Ledger, Load

ROUNDS = int(os.environ.get("POSTHOUSE_CHAOS_ROUNDS", "20"))
LOAD_SECONDS = (0.3, 0.8)


@pytest.fixture
def machine(tmp_path):
    with closed_port() as port:
        machine = Machine(tmp_path, relay_port=port).populate()
        yield machine
        machine.kill()


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(120 + 10 * ROUNDS)
def test_nothing_acknowledged_is_lost_torn_or_doubled_however_often_everything_is_killed(machine):
    seed = os.environ.get("POSTHOUSE_CHAOS_SEED", "posthouse")
    ledger = Ledger()
    memory = Memory(ledger)
    disk = Disk(machine.data)
    rng = random.Random(seed)
    for turn in range(ROUNDS):
        if rng.random() < 0.2:  # also while it is starting
            machine.begin()
            time.sleep(rng.uniform(0.05, 1.0))
            machine.crash()
        machine.start()
        if turn == 0:
            make_archive(machine)
        look_at_all(memory, machine, read_only=turn % 2 == 0)
        run_until_killed(machine, memory, f"{seed}-{turn}", rng.uniform(*LOAD_SECONDS))
        problems = "\n".join(memory.problems + compare(disk, ledger, gone=memory.gone))
        assert problems == "", f"seed {seed}, round {turn}"
    disk.forget()
    machine.start()
    look_at_all(memory, machine, read_only=False)
    assert memory.problems + compare(disk, ledger, gone=memory.gone) == [], f"seed {seed}, at the end"
    assert len(ledger.taken) > ROUNDS
    assert {place for sent in ledger.taken for place in sent.places} == {"alice", "bob", "carol", "queue"}
    assert machine.stop() == 0
    assert [event for event in machine.log if event.get("level") in ("error", "critical")] == []


def make_archive(machine):
    for account in ACCOUNTS:
        connection = log_in(machine.ports["imap"], account)
        require(connection.create("Archive"))
        connection.logout()


def look_at_all(memory, machine, *, read_only, power_failed=False):
    for account in ACCOUNTS:
        for name in MAILBOXES:
            memory.look(machine.ports["imap"], account, name, read_only=read_only, power_failed=power_failed)


def run_until_killed(machine, memory, seed, seconds):
    """Load from ten senders and a reader, and the end of everything in the middle of it."""
    stop = threading.Event()
    reader = Reader(memory, lambda: machine.ports["imap"], "carol", seed, stop)
    with Load(memory.ledger, lambda: machine.ports["smtp"], seed):
        reader.start()
        time.sleep(seconds)
        machine.crash()
        stop.set()
        reader.join()
    if reader.failure is not None:
        raise reader.failure
