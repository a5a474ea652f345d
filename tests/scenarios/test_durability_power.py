"""A power cut: the page cache is gone, another boot begins, and the journal brings back what was acknowledged."""

import os
import random
import sys
import uuid
from pathlib import Path

import pytest
from tests.scenarios import otherboot
from tests.scenarios.evidence import Disk, compare
from tests.scenarios.machine import Machine, closed_port
from tests.scenarios.powercut import Disk as RealDisk
from tests.scenarios.powercut import tear_journals
from tests.scenarios.readers import Memory
from tests.scenarios.senders import Ledger
from tests.scenarios.test_crash import look_at_all, make_archive, run_until_killed

CUTS = max(4, int(os.environ.get("POSTHOUSE_CHAOS_ROUNDS", "20")) // 3)


@pytest.fixture
def machine(tmp_path):
    with closed_port() as port:
        machine = Machine(tmp_path, relay_port=port).populate()
        yield machine
        machine.kill()


def boot(machine, directory: Path, checkpoint_seconds: float) -> None:
    """The next start is in a boot of its own, with a checkpoint every so often."""
    boot_id = directory / f"boot-{uuid.uuid4()}"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    program = os.path.abspath(otherboot.__file__)
    machine.command = (sys.executable, program, str(boot_id), str(checkpoint_seconds), str(directory / "record"))


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(120 + 15 * CUTS)
def test_a_power_cut_takes_nothing_that_was_acknowledged_and_no_uid(machine, tmp_path):
    seed = os.environ.get("POSTHOUSE_CHAOS_SEED", "posthouse")
    ledger = Ledger()
    memory = Memory(ledger)
    disk = Disk(machine.data)
    real = RealDisk(machine.data, tmp_path / "record", tmp_path / "attic")
    for turn in range(CUTS):
        rng = random.Random(f"{seed}-{turn}")
        boot(machine, tmp_path, rng.choice([3600.0, 3600.0, 0.2]))
        machine.start()
        if turn == 0:
            make_archive(machine)
        look_at_all(memory, machine, read_only=False, power_failed=True)
        report = "\n".join(memory.problems + compare(disk, ledger, gone=memory.gone))
        assert report == "", f"seed {seed}, after cut {turn}"
        real.all_is_durable()
        run_until_killed(machine, memory, f"{seed}-{turn}", rng.uniform(0.3, 0.8))
        tear_journals(rng, machine.data, {sent.id for sent in ledger.taken})
        real.cut(rng)
        disk.forget()
    boot(machine, tmp_path, 3600.0)
    machine.start()
    look_at_all(memory, machine, read_only=False, power_failed=True)
    report = "\n".join(memory.problems + compare(disk, ledger, gone=memory.gone))
    assert report == "", f"seed {seed}, at the end"
    assert machine.stop() == 0
    recoveries = [event for event in machine.log if event.get("event") == "recovered-after-power-failure"]
    restored = sum(event["restored"] + event["rewritten"] for event in recoveries)
    assert (len(recoveries), restored > 0) == (CUTS, True)
