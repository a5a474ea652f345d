"""What a large queue costs everybody else: receiving and relaying with an empty queue, and beside half a million
messages that wait for their next attempt.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import relay, servers, sink, smtp
from bench.accounts import maildir, receivers
from bench.corpus import make_empty_maildir
from bench.posthouse import Posthouse
from bench.rounds import Contest, say
from bench.table import Row

SECTION = "Deferred"
MESSAGES = 500_000
READY_SECONDS = 900.0
SETTLED_SECONDS = 10.0
LEAST = 0.9
"""How much of the throughput has to be left."""

FILL = """\
import sys, time
from datetime import UTC, datetime
from posthouse.base.errors import Reply
from posthouse.mailqueue.spool import Spool
from posthouse.mailqueue.state import MessageState, RecipientState
from posthouse.message.envelope import Envelope, Recipient
import msgspec
spool = Spool(sys.argv[1])
spool.prepare()
body = b"Subject: waiting\\r\\n\\r\\n" + b"x" * 78 + b"\\r\\n"
now = datetime.now(UTC)
now_seconds = time.time()
reply = Reply(451, "4.7.1", "Try again later")
for number in range(int(sys.argv[2])):
    recipient = Recipient(f"user{number}@slow{number % 1000}.example")
    envelope = Envelope(f"sender{number % 100}@example.org", (recipient,), f"q{number:09}")
    put = spool.plan(envelope, header_prefix=b"", now=now, content_size=len(body))
    with open(put.path, "wb") as file:
        file.write(put.prefix + body)
    waiting = RecipientState(attempts=9, last_attempt=now_seconds, next_attempt=now_seconds + 4000, reply=reply)
    state = MessageState([waiting])
    with open(f"{sys.argv[1]}/state/{envelope.trace_id}", "wb") as file:
        file.write(msgspec.json.encode(state))
"""


def sets_needed(rounds: int) -> int:
    """How many hundreds of mailboxes there must be: ours come after those of ``smtp``."""
    return smtp.sets_needed(rounds) + 2 * rounds


def compare(contest: Contest, server: Posthouse, directory: str, port: int) -> None:
    """The server is stopped when it begins and when it ends."""
    count = 2_000 if contest.is_quick else MESSAGES
    sets = iter(range(smtp.sets_needed(contest.rounds), sets_needed(contest.rounds)))
    empty = _throughput(contest, server, directory, port, sets, "empty")
    say(f"Deferred: writing {count} messages")
    servers.run(sys.executable, "-c", FILL, server.queue, str(count))
    os.unlink(os.path.join(server.queue, "index.db"))  # it knows nothing of these
    full = _throughput(contest, server, directory, port, sets, "full")
    for what, before, beside in zip(("delivered", "relayed"), empty, full, strict=True):
        contest.table.add(SECTION, Row(f"{what}, empty queue", "1/s", "more"), before)
        contest.table.add(SECTION, Row(f"{what}, {count} deferred", "1/s", "more", goal=LEAST * before), beside)


def _throughput(
    contest: Contest, server: Posthouse, directory: str, port: int, sets: Iterator[int], state: str
) -> tuple[float, float]:
    """Delivered and relayed a second, medians of the rounds."""
    seconds = 1.0 if contest.is_quick else 8.0
    delivered: list[float] = []
    relayed: list[float] = []
    with _running(server), sink.running(port, directory) as taker:
        if state == "full":
            contest.table.add(SECTION, Row("index of these made", "s", ""), _await_index(server))
        relay.run(server, taker, 2_048, 10, 0.5)
        for number in range(contest.rounds):
            say(f"Deferred: {state} queue: round {number + 1} of {contest.rounds}")
            mailboxes = next(sets)
            for name in receivers(mailboxes):
                make_empty_maildir(os.path.join(server.mail_root, maildir(name)))
            os.sync()
            outcome, took = smtp.run(server, mailboxes, 2_048, 10, seconds, 1)
            delivered.append(outcome.done / took)
            relayed.append(relay.run(server, taker, 2_048, 10, seconds)[1])
    return statistics.median(delivered), statistics.median(relayed)


@contextmanager
def _running(server: Posthouse) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


def _await_index(server: Posthouse) -> float:
    """Seconds until the server's index grows no more: it has found what waits."""
    started = grown = time.monotonic()
    count = -1
    while time.monotonic() < grown + SETTLED_SECONDS:
        if time.monotonic() > started + READY_SECONDS:
            raise TimeoutError(f"the queue's index still grows after {READY_SECONDS:.0f} s")
        if (now := server.queued()) != count:
            count, grown = now, time.monotonic()
        time.sleep(0.5)
    return grown - started
