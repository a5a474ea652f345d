"""Relaying: messages accepted and handed on to the next hop, a second.

The same load as for receiving, to addresses elsewhere; both servers hand all of it to one smtp-sink. A message counts
once that has taken it.
"""

import time
from collections.abc import Callable, Sequence

from bench import sink, smtp
from bench.load import Load
from bench.rounds import Contest, Figures
from bench.servers import Server
from bench.table import Row

SECTION = "Relay"
SESSIONS = (1, 10, 50)
SECONDS = 8.0
TARGET = 2.0
SENDERS = 100


def compare(contest: Contest, sides: Sequence[Server], directory: str, port: int) -> None:
    """``port``: where both send what is not theirs."""
    seconds = 1.0 if contest.is_quick else SECONDS
    for server in sides:
        with sink.running(port, directory) as taker:
            run(server, taker, 2_048, 10, 0.5)
    for size, size_name in smtp.SIZES:
        for sessions in SESSIONS:
            name = f"{size_name}, {sessions} session{'s' * (sessions > 1)}"
            contest.alternate(
                SECTION, name, sides, _measuring(contest, directory, port, name, (size, sessions, seconds))
            )


def _measuring(
    contest: Contest, directory: str, port: int, name: str, cell: tuple[int, int, float]
) -> Callable[[Server, int], Figures]:
    size, sessions, seconds = cell

    def measure(server: Server, _: int) -> Figures:
        with sink.running(port, directory) as taker:
            accepted, relayed, failures = run(server, taker, size, sessions, seconds)
        if failures:
            contest.note(f"Relay: {name}: {server.name}: {failures} failures")
        return [
            (Row(f"{name}: relayed", "1/s", "more", TARGET), relayed),
            (Row(f"{name}: accepted", "1/s", "more"), accepted),
        ]

    return measure


def run(server: Server, taker: sink.Sink, size: int, sessions: int, seconds: float) -> tuple[float, float, int]:
    """Accepted a second, relayed a second, failures."""
    recipients = [f"r{number}@remote.example" for number in range(SENDERS)]
    load = Load(server.smtp_port, smtp.dialogue(recipients, size), sessions=sessions, seconds=seconds, per_session=1)
    before = taker.taken
    outcome = load.run()
    taker.wait(before + outcome.done)
    return outcome.per_second, outcome.done / (time.perf_counter() - outcome.started), outcome.failures
