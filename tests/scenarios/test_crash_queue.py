"""The queue runner is killed again and again while the next hop is on a bad day."""

import itertools
import os
import random
import time
from collections import defaultdict

import pytest
from tests.running import PATIENCE_SECONDS
from tests.scenarios.evidence import Disk, compare, identify
from tests.scenarios.flakysink import FlakySink
from tests.scenarios.machine import CONFIGURATION, Machine
from tests.scenarios.senders import TAKEN, Conversation, Ledger, deliver, some_size

KILLS = max(4, int(os.environ.get("POSTHOUSE_CHAOS_ROUNDS", "20")) // 4)
MESSAGES_A_ROUND = 25
CONNECTIONS = 4
QUEUE = f"""
[queue]
minimum_wait_seconds = 1
maximum_wait_seconds = 1
connections_per_destination = {CONNECTIONS}
"""


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(180 + 30 * KILLS)
def test_a_killed_queue_runner_loses_nothing_and_repeats_only_what_it_heard_no_answer_to(tmp_path):
    """RFC 5321 §6.1: responsibility is handed over by the 250, and a lost one means sending again."""
    seed = os.environ.get("POSTHOUSE_CHAOS_SEED", "posthouse")
    rng = random.Random(seed)
    ledger = Ledger()
    kills: list[float] = []
    with FlakySink(seed) as sink:
        machine = Machine(tmp_path, CONFIGURATION + QUEUE, relay_port=sink.port, workers=1).populate().start()
        try:
            for _ in range(KILLS):
                wanted = len(sink.deliveries) + rng.randrange(1, MESSAGES_A_ROUND)
                send(machine, ledger, rng)
                wait_for_deliveries(sink, wanted)
                killed = machine.kill_process("queue")
                kills.append(time.monotonic())
                machine.wait_for_process("queue", other_than=killed)
            sink.is_honest = True
            wait_until_empty(machine)
            assert machine.stop() == 0
        finally:
            machine.kill()
        assert {event["event"] for event in machine.log if event.get("level") == "error"} == {"process-died"}
        assert what_went_wrong(ledger, sink, kills) == [], f"seed {seed}"
    for sent in ledger.sent.values():
        sent.places -= {"queue"}
    assert compare(Disk(machine.data), ledger) == []


def send(machine, ledger, rng):
    conversation = Conversation(machine.ports["smtp"])
    for _ in range(MESSAGES_A_ROUND):
        recipients = rng.choice([["friend@elsewhere.test"], ["friend@elsewhere.test", "alice@example.test"]])
        assert deliver(conversation, ledger, rng, recipients, some_size(rng)).outcome == TAKEN
    conversation.close()


def wait_for_deliveries(sink, count):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(sink.deliveries) < count:
        assert time.monotonic() < deadline, f"only {len(sink.deliveries)} of {count} messages arrived"
        time.sleep(0.005)


def wait_until_empty(machine):
    queue = machine.data / "queue" / "messages"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(queue.iterdir()):
        assert time.monotonic() < deadline, f"{len(list(queue.iterdir()))} messages still wait"
        time.sleep(0.02)


def what_went_wrong(ledger, sink, kills):
    """Messages that did not arrive, are not as sent, or came again without a reason."""
    problems: list[str] = []
    arrived = defaultdict(list)
    for delivery in sink.deliveries:
        name = identify(delivery.data, ledger)
        if not name:
            problems.append(f"not as sent: {delivery.data[:300]!r}")
        arrived[name].append(delivery)
    onward = [sent for sent in ledger.taken if "queue" in sent.places]
    problems += [f"{sent.id} never arrived" for sent in onward if sent.id not in arrived]
    repeated = 0
    for name, deliveries in arrived.items():
        deliveries.sort(key=lambda delivery: delivery.at)
        for first, again in itertools.pairwise(deliveries):
            if first.heard and not any(first.at < kill < again.at for kill in kills):
                problems.append(f"{name} was delivered at {first.at} and again at {again.at}; kills: {kills}")
            repeated += first.heard
    if repeated > CONNECTIONS * len(kills):
        problems.append(f"{repeated} messages came again whose answer was heard, after {len(kills)} kills")
    return problems
