"""Receiving mail: accepted a second, and in its Maildir a second.

One message a connection by default, as between hosts that are strangers, no pipelining. The mailboxes of each run
are new. A message counts as delivered when its file is in ``new/``.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.accounts import MAILBOXES, address, maildir, receivers
from bench.corpus import make_empty_maildir
from bench.load import Dialogue, Load, Outcome, smtp_status
from bench.rounds import Contest, Figures
from bench.servers import Server
from bench.table import Row

SECTION = "SMTP"
SIZES = ((2_048, "2 KB"), (51_200, "50 KB"))
SESSIONS = (1, 10, 50)
FIRST_SET = 2
DRAIN_SECONDS = 120.0
POLL_SECONDS = 0.02
TARGETS = {("2 KB", 10): 3.5}
"""Delivered messages a second, by size and sessions."""
LINE = b"There is nothing in this line that a mail server would have to look at twice.\r\n"


@dataclass(frozen=True, slots=True)
class Cell:
    """``first_set``: the mailboxes of the first round; each further round takes the next set."""

    size_bytes: int
    size_name: str
    sessions: int
    first_set: int

    def name(self) -> str:
        return f"{self.size_name}, {self.sessions} session{'s' * (self.sessions > 1)}"


def sets_needed(rounds: int) -> int:
    """How many hundreds of mailboxes there must be: set 0 stays empty, for logins, set 1 is for warming up."""
    return FIRST_SET + rounds * len(SIZES) * len(SESSIONS)


def compare(contest: Contest, sides: Sequence[Server], *, per_connection: int) -> None:
    seconds = 1.0 if contest.is_quick else 8.0
    for server in sides:
        for number in range(1, sets_needed(contest.rounds)):
            for name in receivers(number):
                make_empty_maildir(os.path.join(server.mail_root, maildir(name)))
        run(server, 1, 2_048, 10, 0.5, per_connection)
    cells = [(size, name, sessions) for size, name in SIZES for sessions in SESSIONS]
    for number, (size, size_name, sessions) in enumerate(cells):
        cell = Cell(size, size_name, sessions, FIRST_SET + number * contest.rounds)
        contest.alternate(SECTION, cell.name(), sides, _measuring(contest, cell, seconds, per_connection))


def _measuring(contest: Contest, cell: Cell, seconds: float, per_connection: int) -> Callable[[Server, int], Figures]:
    def measure(server: Server, number: int) -> Figures:
        done = run(server, cell.first_set + number, cell.size_bytes, cell.sessions, seconds, per_connection)
        return _figures(contest, server, done, cell)

    return measure


def _figures(contest: Contest, server: Server, run: tuple[Outcome, float], cell: Cell) -> Figures:
    outcome, delivered_seconds = run
    name = cell.name()
    if outcome.failures:
        contest.note(f"SMTP: {name}: {server.name}: {outcome.failures} failures, first: {outcome.first_failure}")
    if not outcome.done:
        raise OSError("no message was accepted")
    figures: Figures = []
    if delivered_seconds:
        target = TARGETS.get((cell.size_name, cell.sessions))
        figures.append((Row(f"{name}: delivered", "1/s", "more", target), outcome.done / delivered_seconds))
    else:
        contest.note(
            f"SMTP: {name}: {server.name}: not all delivered {DRAIN_SECONDS:.0f} s after the last was accepted"
        )
    return [
        *figures,
        (Row(f"{name}: accepted", "1/s", "more"), outcome.per_second),
        (Row(f"{name}: p50", "ms", "less"), outcome.percentile(0.5) * 1e3),
        (Row(f"{name}: p99", "ms", "less"), outcome.percentile(0.99) * 1e3),
        (Row(f"{name}: client's CPU a message", "us", ""), outcome.client_cpu_seconds / outcome.done * 1e6),
    ]


def run(
    server: Server, number: int, size: int, sessions: int, seconds: float, per_connection: int
) -> tuple[Outcome, float]:
    """The load's outcome, and the time until all of it was delivered, 0 if it never was."""
    names = receivers(number)
    load = Load(
        server.smtp_port,
        dialogue([address(name) for name in names], size),
        sessions=sessions,
        seconds=seconds,
        per_session=per_connection,
    )
    outcome = load.run()
    awaited = {
        os.path.join(server.mail_root, maildir(name), "new"): count
        for name, count in zip(names, outcome.counts, strict=True)
        if count
    }
    return outcome, _await_delivery(awaited, outcome.started)


def dialogue(recipients: list[str], size: int) -> Dialogue:
    """One message to each recipient in turn."""
    units = [
        (
            (b"MAIL FROM:<load@example.org>\r\n", b"250"),
            (f"RCPT TO:<{recipient}>\r\n".encode(), b"250"),
            (b"DATA\r\n", b"354"),
            (_message(recipient, size), b"250"),
        )
        for recipient in recipients
    ]
    return Dialogue(b"220", ((b"EHLO load.example.org\r\n", b"250"),), units, b"QUIT\r\n", smtp_status)


def _message(recipient: str, size: int) -> bytes:
    header = (
        f"From: Load <load@example.org>\r\nTo: <{recipient}>\r\nSubject: A message among many\r\n"
        "Date: Sun, 01 Nov 2026 12:00:00 +0000\r\nMessage-ID: <among.many@load.example.org>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    ).encode()
    body = LINE * (size // len(LINE) + 1)
    return header + body[: size - len(header) - 2] + b"\r\n.\r\n"


def _await_delivery(awaited: dict[str, int], started: float) -> float:
    """Seconds from ``started`` until each directory has as many files as it should; 0 if that takes too long.

    Counting takes CPU from the server: only where something is missing, and less often the more is missing.
    """
    assert len(awaited) <= MAILBOXES
    deadline = time.perf_counter() + DRAIN_SECONDS
    while True:
        missing = 0
        now = time.perf_counter()
        for path, count in list(awaited.items()):
            if short := count - len(os.listdir(path)):
                missing += max(0, short)
            if short <= 0:
                del awaited[path]
        if not awaited:
            return now - started
        if now > deadline:
            return 0.0
        time.sleep(max(POLL_SECONDS, min(0.5, missing / 5_000)))
