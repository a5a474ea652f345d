"""Fetching mail: POP3 on a mailbox of 1,000 messages, warm, one client."""

import socket
import time
from collections.abc import Sequence

from bench.accounts import PASSWORD, POP, POP_MESSAGES, address, receivers
from bench.load import Dialogue, Load, pop3_status
from bench.rounds import Contest, Figures
from bench.servers import HOST, Server
from bench.table import Row

SECTION = "POP3"
PATIENCE_SECONDS = 120.0
BUFFER_BYTES = 1 << 18
BATCH = 50
END = b"\r\n.\r\n"


class Pop3:
    """A client that counts the ends of the answers."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(BUFFER_BYTES)
        self._line()

    def command(self, text: bytes) -> bytes:
        """The answer, of one line. Raises ``OSError`` unless it is +OK."""
        self._sock.sendall(text + b"\r\n")
        return self._line()

    def listing(self, *commands: bytes) -> int:
        """Commands with answers of many lines, sent at once; the octets that came."""
        self._sock.sendall(b"".join(command + b"\r\n" for command in commands))
        awaited = len(commands)
        octets = 0
        before = b""
        view = memoryview(self._buffer)
        while awaited > 0:
            count = self._sock.recv_into(view)
            if not count:
                raise OSError("closed by the server in the middle of an answer")
            octets += count
            # An end may be split between two reads; the four octets kept are too few to be counted twice.
            awaited -= (before + self._buffer[: min(count, 4)]).count(END) + self._buffer.count(END, 0, count)
            before = (before + self._buffer[max(0, count - 4) : count])[-4:]
            if octets == count and not b"+OK".startswith(self._buffer[: min(count, 3)]):
                raise OSError(f"the server said {bytes(view[: min(count, 200)])!r}")
        return octets

    def enter(self) -> None:
        self.command(f"USER {address(POP)}".encode())
        self.command(f"PASS {PASSWORD}".encode())
        self.command(b"STAT")

    def quit(self) -> None:
        self.command(b"QUIT")
        self._sock.close()

    def _line(self) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            chunk = self._sock.recv(4096)
            if not chunk:
                raise OSError(f"closed by the server after {data!r}")
            data += chunk
        if not data.startswith(b"+OK"):
            raise OSError(f"the server said {data!r}")
        return data


def compare(contest: Contest, sides: Sequence[Server]) -> None:
    octets = {server.name: _warm(server) for server in sides}
    if len(set(octets.values())) > 1 and max(octets.values()) > 1.01 * min(octets.values()):
        contest.note(f"POP3: the messages differ in size: {octets}")
    contest.alternate(SECTION, "one session", sides, lambda server, _: _session(server))
    contest.alternate(SECTION, "RETR pipelined", sides, lambda server, _: _pipelined(server))
    seconds = 1.0 if contest.is_quick else 4.0
    for sessions in (1, 10):
        contest.alternate(
            SECTION,
            f"sessions, {sessions} at a time",
            sides,
            lambda server, _, n=sessions: _sessions(contest, server, n, seconds),
        )


def _warm(server: Server) -> int:
    """Read everything once; the octets. A server may mark the messages as read when the session ends."""
    pop = Pop3(server.pop3_port)
    pop.enter()
    octets = sum(pop.listing(b"RETR %d" % number) for number in range(1, POP_MESSAGES + 1))
    pop.quit()
    return octets


def _session(server: Server) -> Figures:
    begun = time.perf_counter()
    pop = Pop3(server.pop3_port)
    pop.enter()
    entered = time.perf_counter()
    pop.listing(b"UIDL")
    listed = time.perf_counter()
    for number in range(1, POP_MESSAGES + 1):
        pop.listing(b"RETR %d" % number)
    fetched = time.perf_counter()
    pop.quit()
    return [
        (Row("connect, log in, STAT of 1,000", "ms", "less"), (entered - begun) * 1e3),
        (Row("UIDL of 1,000", "ms", "less"), (listed - entered) * 1e3),
        (Row("RETR of 1,000, one after the other", "ms", "less"), (fetched - listed) * 1e3),
    ]


def _pipelined(server: Server) -> Figures:
    pop = Pop3(server.pop3_port)
    pop.enter()
    begun = time.perf_counter()
    for first in range(1, POP_MESSAGES + 1, BATCH):
        pop.listing(*(b"RETR %d" % number for number in range(first, min(first + BATCH, POP_MESSAGES + 1))))
    fetched = time.perf_counter()
    pop.quit()
    return [(Row(f"RETR of 1,000, {BATCH} at once", "ms", "less"), (fetched - begun) * 1e3)]


def _sessions(contest: Contest, server: Server, sessions: int, seconds: float) -> Figures:
    # A hundred different users: a maildrop is locked while a session has it.
    units = [
        (
            (f"USER {address(name)}\r\n".encode(), b"+OK"),
            (f"PASS {PASSWORD}\r\n".encode(), b"+OK"),
            (b"STAT\r\n", b"+OK"),
        )
        for name in receivers(0)
    ]
    dialogue = Dialogue(b"+OK", (), units, b"QUIT\r\n", pop3_status)
    outcome = Load(server.pop3_port, dialogue, sessions=sessions, seconds=seconds).run()
    if outcome.failures:
        contest.note(f"POP3: {server.name}: {outcome.failures} sessions failed, first: {outcome.first_failure}")
    return [(Row(f"connect, log in, STAT, QUIT, {sessions} at a time", "1/s", "more"), outcome.per_second)]
