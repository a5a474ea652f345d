"""Everything is killed, or the power fails, while mail comes in and goes on to a next hop on a bad day.

Promise 1 from end to end: what got its 250 arrives, whole, here or at the next hop; and it arrives there twice only
where the answer was cut off, or the end came before it was written down.
"""

import os
import random
import time

import pytest
from tests.scenarios.evidence import Disk, compare
from tests.scenarios.flakysink import FlakySink
from tests.scenarios.machine import CONFIGURATION, Machine
from tests.scenarios.powercut import Disk as RealDisk
from tests.scenarios.powercut import tear_journals
from tests.scenarios.senders import Ledger, Load
from tests.scenarios.test_crash_queue import CONNECTIONS, QUEUE, wait_until_empty, what_went_wrong
from tests.scenarios.test_durability_power import boot

ROUNDS = int(os.environ.get("POSTHOUSE_CHAOS_ROUNDS", "3"))
SENDERS = 3
WAYS = {"kill -9 of everything": 2, "kill -9 of the queue runner": 1, "power cut": 2}
NO_CHECKPOINT_SECONDS = 3600.0


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(240 + 20 * ROUNDS)
def test_whatever_ends_it_and_whenever_mail_arrives_whole_and_comes_again_only_for_want_of_an_answer(tmp_path):
    """RFC 5321 §6.1: responsibility is handed over by the 250, and a lost one means sending again."""
    seed = os.environ.get("POSTHOUSE_CHAOS_SEED", "posthouse")
    print(f"seed {seed}, {ROUNDS} rounds")
    ledger = Ledger()
    ends: list[float] = []
    with FlakySink(seed) as sink:
        machine = Machine(tmp_path, CONFIGURATION + QUEUE, relay_port=sink.port, workers=1).populate()
        real = RealDisk(machine.data, tmp_path / "record", tmp_path / "attic")
        try:
            checkpoint_seconds = begin_boot(machine, tmp_path, real, random.Random(f"{seed}-boot"))
            for turn in range(ROUNDS):
                rng = random.Random(f"{seed}-{turn}")
                way = rng.choices([*WAYS], [*WAYS.values()])[0]
                if machine.process is None:
                    machine.start()
                with Load(ledger, lambda: machine.ports["smtp"], f"{seed}-{turn}", SENDERS):
                    time.sleep(rng.uniform(0.2, 1.0))
                    end(machine, way)
                    ends.append(time.monotonic())
                if way == "power cut":
                    tear_journals(rng, machine.data, {sent.id for sent in ledger.taken})
                    real.cut(rng, with_queue=checkpoint_seconds == NO_CHECKPOINT_SECONDS)
                    checkpoint_seconds = begin_boot(machine, tmp_path, real, rng)
                print(f"round {turn}: {way}; {len(ledger.taken)} taken, {len(sink.deliveries)} at the next hop")
            if machine.process is None:
                machine.start()
            sink.is_honest = True
            wait_until_empty(machine)
            assert machine.stop() == 0
        finally:
            machine.kill()
        assert [event for event in machine.bugs() if event.get("event") != "not-json"] == []
        assert what_went_wrong(ledger, sink, ends) == [], f"seed {seed}"
    print(figures(ledger, sink, ends))
    for sent in ledger.sent.values():
        sent.places -= {"queue"}
    assert compare(Disk(machine.data), ledger) == [], f"seed {seed}"


def begin_boot(machine, directory, real, rng) -> float:
    """Start it in another boot of the machine, with all that is there on the disk; how often that has checkpoints."""
    seconds = rng.choice([NO_CHECKPOINT_SECONDS, NO_CHECKPOINT_SECONDS, 0.2])
    boot(machine, directory, seconds)
    machine.start()
    real.all_is_durable()
    return seconds


def end(machine, way) -> None:
    if way == "kill -9 of the queue runner":
        killed = machine.kill_process("queue")
        machine.wait_for_process("queue", other_than=killed)
    else:
        machine.crash()
        machine.process = None


def figures(ledger, sink, ends) -> str:
    unheard = sum(not delivery.heard for delivery in sink.deliveries)
    onward = sum("queue" in sent.places for sent in ledger.taken)
    return (
        f"{len(ends)} ends, {len(ledger.taken)} messages taken, {onward} of them for the next hop, which got "
        f"{len(sink.deliveries)}, and did not hear that it was heard of {unheard}; {CONNECTIONS} connections"
    )
