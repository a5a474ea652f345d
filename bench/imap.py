"""Reading mail: IMAP commands on a mailbox of 10,000 messages, everything warm, one client.

Both servers have the same messages under the same file names. What they answer to a command is compared, too: as
many responses from the one as from the other, as many messages found.
"""

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence

from bench.accounts import BIG, BIG_MESSAGES, PASSWORD, address, receivers
from bench.corpus import BODY_WORD, SUBJECT_WORD
from bench.load import Dialogue, Load, imap_status
from bench.posthouse import Posthouse
from bench.rounds import Contest, Figures
from bench.servers import HOST, Server
from bench.table import Row

SECTION = "IMAP"
PATIENCE_SECONDS = 120.0
BUFFER_BYTES = 1 << 18
TAIL_BYTES = 1_024

FETCHES = (
    ("FETCH 1:* FLAGS", b"FETCH 1:* (FLAGS)"),
    ("FETCH 1:* UID FLAGS SIZE DATE", b"FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE)"),
    ("FETCH 1:* ENVELOPE BODYSTRUCTURE", b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)"),
    ("FETCH 1:* HEADER.FIELDS", b"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])"),
    ("FETCH 1:1000 whole messages", b"FETCH 1:1000 (BODY.PEEK[])"),
)
SEARCHES = (
    ("SEARCH SUBJECT, 1 % found", f"SEARCH SUBJECT {SUBJECT_WORD}".encode()),
    ("SEARCH SINCE, a third found", b"SEARCH SINCE 6-Aug-2026"),
    ("SEARCH TEXT, 1 % found", f"SEARCH TEXT {BODY_WORD}".encode()),
)
FETCH_TARGET = 1.0
_RESPONSES = re.compile(rb"^\* \d+ FETCH ", re.MULTILINE)
_FOUND = re.compile(rb"^\* SEARCH([ \d]*)", re.MULTILINE)


class Imap:
    """A client that looks at the end of what it gets, for its tag, and at nothing else unless it is asked to."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(BUFFER_BYTES)
        # No message can contain it.
        self._tag = secrets.token_hex(6).encode()
        self._read_to(b"* OK")

    def command(self, text: bytes) -> bytes:
        """The end of the answer to a command. Raises ``OSError`` unless it is OK."""
        self._sock.sendall(self._tag + b" " + text + b"\r\n")
        return self._read_to(self._tag)

    def whole_answer(self, text: bytes) -> bytes:
        kept: list[bytes] = []
        self._sock.sendall(self._tag + b" " + text + b"\r\n")
        self._read_to(self._tag, kept)
        return b"".join(kept)

    def login(self, name: str) -> None:
        self.command(f"LOGIN {address(name)} {PASSWORD}".encode())

    def idle(self) -> None:
        self._sock.sendall(self._tag + b" IDLE\r\n")
        self._read_to(b"+")

    def logout(self) -> None:
        try:
            self._sock.sendall(self._tag + b" LOGOUT\r\n")
            while self._sock.recv(4096):
                pass
        except OSError:
            pass
        self._sock.close()

    def close(self) -> None:
        self._sock.close()

    def _read_to(self, mark: bytes, kept: list[bytes] | None = None) -> bytes:
        """Read until the last line begins with ``mark``."""
        tail = b""
        view = memoryview(self._buffer)
        while True:
            count = self._sock.recv_into(view)
            if not count:
                raise OSError(f"closed by the server after {tail[-200:]!r}")
            if kept is not None:
                kept.append(bytes(view[:count]))
            tail = (tail + bytes(view[max(0, count - TAIL_BYTES) : count]))[-TAIL_BYTES:]
            if not tail.endswith(b"\r\n"):
                continue
            line = tail[tail.rfind(b"\n", 0, -1) + 1 :]
            if line.startswith(mark):
                break
        if mark is self._tag and not line.startswith(mark + b" OK"):
            raise OSError(f"the server said {line[:200]!r}")
        return tail


def compare(contest: Contest, sides: Sequence[Server]) -> None:
    _compare_answers(contest, sides)
    repeats = 3 if contest.is_quick else 20
    _alternate(contest, sides, "login, SELECT", lambda server, _: _entries(server, repeats))
    sessions = {server.name: _selected(server) for server in sides}
    noops, appends = (100, 30) if contest.is_quick else (2_000, 1_000)
    work: list[tuple[str, Callable[[Imap, int], Figures]]] = [
        *((name, _timing(Row(name, "ms", "less", FETCH_TARGET), command)) for name, command in FETCHES),
        *((name, _timing(Row(name, "ms", "less"), command)) for name, command in SEARCHES),
        ("STORE", _store),
        ("NOOP", lambda imap, _: _noops(imap, noops)),
        ("APPEND", lambda imap, number: _append(imap, number, appends)),
    ]
    for name, measure in work:
        _alternate(contest, sides, name, _in_session(sessions, measure))
    for imap in sessions.values():
        imap.logout()
    for count in (1, 10):
        _alternate(contest, sides, f"logins, {count} at a time", _logins(contest, count))


def _alternate(
    contest: Contest, sides: Sequence[Server], cell: str, measure: Callable[[Server, int], Figures]
) -> None:
    contest.alternate(SECTION, cell, sides, measure)


def _compare_answers(contest: Contest, sides: Sequence[Server]) -> None:
    """Ask everything once: that warms what can be warm, and shows whether both do the same work."""
    answers: dict[str, dict[str, int]] = {}
    for server in sides:
        imap = _selected(server)
        for name, command in FETCHES:
            answer = imap.whole_answer(command)
            answers.setdefault(name, {})[server.name] = len(_RESPONSES.findall(answer))
        for name, command in SEARCHES:
            found = _FOUND.search(imap.whole_answer(command))
            answers.setdefault(name, {})[server.name] = len(found[1].split()) if found else -1
        imap.logout()
        if isinstance(server, Posthouse):
            server.index_texts(BIG)
            contest.note("IMAP: SEARCH TEXT: with Posthouse's search index, which the first such search has made")
    for name, counts in answers.items():
        if len(set(counts.values())) > 1:
            contest.note(f"IMAP: {name}: the answers differ in size: {counts}")
    expected = answers[FETCHES[0][0]].values()
    if any(count != BIG_MESSAGES for count in expected):
        contest.note(f"IMAP: the mailbox should have {BIG_MESSAGES} messages, FETCH shows {list(expected)}")


def _selected(server: Server) -> Imap:
    imap = Imap(server.imap_port)
    imap.login(BIG)
    imap.command(b"SELECT INBOX")
    return imap


def _entries(server: Server, repeats: int) -> Figures:
    """Connection and LOGIN; then SELECT."""
    logins: list[float] = []
    selects: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        imap = Imap(server.imap_port)
        imap.login(BIG)
        between = time.perf_counter()
        imap.command(b"SELECT INBOX")
        selects.append(time.perf_counter() - between)
        logins.append(between - begun)
        imap.logout()
    return [
        (Row("connect and LOGIN", "ms", "less"), sorted(logins)[repeats // 2] * 1e3),
        (Row("SELECT of 10,000", "ms", "less"), sorted(selects)[repeats // 2] * 1e3),
    ]


def _in_session(
    sessions: dict[str, Imap], measure: Callable[[Imap, int], Figures]
) -> Callable[[Server, int], Figures]:
    """Measure in the server's session, which is a new one after a failure: the old one may be out of step."""

    def measured(server: Server, number: int) -> Figures:
        try:
            return measure(sessions[server.name], number)
        except OSError:
            sessions[server.name].close()
            sessions[server.name] = _selected(server)
            raise

    return measured


def _timing(row: Row, command: bytes) -> Callable[[Imap, int], Figures]:
    def measure(imap: Imap, _: int) -> Figures:
        begun = time.perf_counter()
        imap.command(command)
        return [(row, (time.perf_counter() - begun) * 1e3)]

    return measure


def _store(imap: Imap, _: int) -> Figures:
    imap.command(b"STORE 1:* -FLAGS.SILENT (\\Flagged)")
    os.sync()
    begun = time.perf_counter()
    imap.command(b"STORE 1:* +FLAGS (\\Flagged)")
    return [(Row("STORE 1:* +FLAGS", "ms", "less"), (time.perf_counter() - begun) * 1e3)]


def _noops(imap: Imap, count: int) -> Figures:
    begun = time.perf_counter()
    for _ in range(count):
        imap.command(b"NOOP")
    return [(Row("NOOP, one after the other", "1/s", "more"), count / (time.perf_counter() - begun))]


def _append(imap: Imap, number: int, count: int) -> Figures:
    """Messages of 2 KB, each in one piece (LITERAL+) and each awaited, into a new folder."""
    folder = f"Append{number}".encode()
    imap.command(b"CREATE " + folder)
    message = b"From: <a@example.org>\r\nSubject: Kept\r\nDate: Sun, 01 Nov 2026 12:00:00 +0000\r\n\r\n"
    message += (b"A line of a message that is put into a folder by its owner." + b"\r\n") * 32
    command = b"APPEND %b (\\Seen) {%d+}\r\n%b" % (folder, len(message), message)
    begun = time.perf_counter()
    for _ in range(count):
        imap.command(command)
    return [(Row("APPEND of 2 KB, one after the other", "1/s", "more"), count / (time.perf_counter() - begun))]


def _logins(contest: Contest, sessions: int) -> Callable[[Server, int], Figures]:
    units = [((f"a LOGIN {address(name)} {PASSWORD}\r\n".encode(), b"a OK"),) for name in receivers(0)]
    dialogue = Dialogue(b"* OK", (), units, b"b LOGOUT\r\n", imap_status)
    seconds = 1.0 if contest.is_quick else 4.0

    def measure(server: Server, _: int) -> Figures:
        outcome = Load(server.imap_port, dialogue, sessions=sessions, seconds=seconds).run()
        if outcome.failures:
            contest.note(f"IMAP: {server.name}: {outcome.failures} logins failed, first: {outcome.first_failure}")
        return [(Row(f"connect, LOGIN, LOGOUT, {sessions} at a time", "1/s", "more"), outcome.per_second)]

    return measure
