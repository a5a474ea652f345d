"""Thousands of messages to a destination that hangs, then answers badly, beside mail to one that does not."""

import threading
import time

import pytest
from tests.running import PATIENCE_SECONDS
from tests.scenarios.flakysink import FlakySink
from tests.scenarios.machine import CONFIGURATION, Machine
from tests.scenarios.senders import Conversation

BURST = 2000
OTHERS = 50
LIMIT = 8
QUEUE = f"""
[queue]
minimum_wait_seconds = 1
maximum_wait_seconds = 1
connections_per_destination = {LIMIT}
"""
MESSAGE = b"Subject: hi\r\n\r\nthere\r\n"


class HangingSink(FlakySink):
    """Takes connections and says nothing until ``answers`` is set; ``most``: connections at a time."""

    def __init__(self, seed):
        super().__init__(seed)
        self.answers = threading.Event()
        self.most = 0

    def _serve(self, connection):
        with self._lock:
            self.most = max(self.most, len(self._open))
        self.answers.wait()
        super()._serve(connection)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_burst_to_a_destination_that_hangs_does_not_delay_others_and_arrives_when_it_answers(tmp_path):
    with FlakySink("fast") as fast, HangingSink("slow") as slow:
        fast.is_honest = True
        machine = Machine(tmp_path, CONFIGURATION + QUEUE, relay_port=fast.port, workers=1).populate()
        machine.cli("transport", "add", "slow.test", f"smtp:[127.0.0.1]:{slow.port}")
        machine.start()
        try:
            conversation = Conversation(machine.ports["smtp"])
            for number in range(BURST):
                assert conversation.send([f"user{number}@slow.test"], MESSAGE).startswith("250 ")
            for number in range(OTHERS):
                assert conversation.send([f"user{number}@fast.test"], MESSAGE).startswith("250 ")
            conversation.close()
            wait_until(lambda: len(fast.deliveries) == OTHERS)
            assert slow.deliveries == []
            # The operator's view of it, beside a server that runs.
            summary = machine.cli("queue", "summary").stdout
            assert summary.split()[-3:][0] == str(BURST), summary
            assert slow.most <= 5
            slow.answers.set()
            wait_until(lambda: len(slow.deliveries) > BURST // 4)
            slow.is_honest = True
            wait_until(lambda: not any((machine.data / "queue" / "messages").iterdir()), 3 * PATIENCE_SECONDS)
            assert slow.most <= LIMIT
            assert machine.stop() == 0
            assert machine.bugs() == []
        finally:
            slow.answers.set()
            machine.kill()


def wait_until(is_so, seconds=PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
