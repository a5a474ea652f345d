"""A large queue for a destination that hangs: how soon others' mail goes on after a start, and in how much memory.

10,000 messages, or as many as POSTHOUSE_QUEUE_MESSAGES says (`make chaos`: a million).
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.running import PATIENCE_SECONDS
from tests.scenarios.flakysink import FlakySink
from tests.scenarios.machine import CONFIGURATION, Machine
from tests.scenarios.senders import Conversation
from tests.scenarios.test_queue_fairness import MESSAGE, QUEUE, HangingSink, wait_until

from posthouse.mailqueue.spool import Spool
from posthouse.message.envelope import Envelope, Recipient

MESSAGES = int(os.environ.get("POSTHOUSE_QUEUE_MESSAGES", "10000"))
MEGABYTE = 1024
MOST = 250 * MEGABYTE
"""In units of 1,024 octets, whatever waits."""


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(300 + MESSAGES // 100)
def test_a_large_queue_starts_in_bounded_memory_and_delays_no_other_mail(tmp_path):
    with FlakySink("fast") as fast, HangingSink("slow") as slow:
        fast.is_honest = True
        machine = Machine(tmp_path, CONFIGURATION + QUEUE, relay_port=fast.port, workers=1).populate()
        machine.cli("transport", "add", "slow.test", f"smtp:[127.0.0.1]:{slow.port}")
        fill(Spool(str(machine.data / "queue")), MESSAGES)
        try:
            for state in ("without its index", "killed and started again"):
                begun = time.monotonic()
                machine.start()
                for number in range(10):
                    wanted = len(fast.deliveries) + 1
                    conversation = Conversation(machine.ports["smtp"])
                    assert conversation.send(["other@fast.test"], MESSAGE).startswith("250 ")
                    conversation.close()
                    wait_until(lambda wanted=wanted: len(fast.deliveries) >= wanted, PATIENCE_SECONDS)
                    if not number:
                        print(f"{state}: others' mail after {time.monotonic() - begun:.1f} s")
                peak = most_memory(machine.process_of("queue"))
                print(f"{state}: {MESSAGES} messages, {peak // MEGABYTE} MB")
                assert peak < MOST
                assert slow.deliveries == []
                machine.crash()
            assert machine.bugs() == []
        finally:
            slow.answers.set()
            machine.kill()


def fill(spool: Spool, count: int) -> None:
    """Put messages of a hundred senders where the journal would."""
    spool.prepare()
    for number in range(count):
        recipient = Recipient(f"user{number}@slow.test")
        envelope = Envelope(f"sender{number % 100}@example.test", (recipient,), f"q{number:09}")
        put = spool.plan(envelope, header_prefix=b"", now=datetime.now(UTC), content_size=len(MESSAGE))
        Path(put.path).write_bytes(put.prefix + MESSAGE)


def most_memory(pid: int) -> int:
    """The peak of what was resident, in units of 1,024 octets."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise AssertionError(pid)
