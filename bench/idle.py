"""Memory of idle sessions: a thousand of different users in IDLE, what the server's processes take for them; and as
many SMTP sessions of ours.

PSS of the server's whole process tree, so that shared memory counts once, before and after; the server is a fresh
one each time. What the kernel takes for sockets is not in it and is much the same for both.
"""

import os
import socket
import time
from collections.abc import Sequence

from bench.accounts import IDLE
from bench.imap import Imap
from bench.load import smtp_status
from bench.rounds import Contest, Figures
from bench.servers import HOST, Server
from bench.table import Row

SECTION = "Memory"
SETTLE_SECONDS = 3.0


def compare(contest: Contest, sides: Sequence[Server]) -> None:
    """The servers are stopped when it begins and when it ends."""
    count = 100 if contest.is_quick else len(IDLE)
    ours = [server for server in sides if server.smtp_port]
    contest.alternate(SECTION, f"{count} SMTP sessions", ours, lambda server, _: _measure_smtp(server, count))
    contest.alternate(SECTION, f"{count} idle sessions", sides, lambda server, _: _measure(server, count))


def _measure(server: Server, count: int) -> Figures:
    server.start()
    sessions: list[Imap] = []
    try:
        # One session that has come and gone: what a server loads at its first login is no session's.
        _open(server, IDLE[0]).close()
        time.sleep(SETTLE_SECONDS)
        before = tree_pss_bytes(server.pid())
        # One by one into the list: all that were opened are closed, whatever happens.
        sessions.extend(_open(server, name) for name in IDLE[:count])
        time.sleep(SETTLE_SECONDS)
        after = tree_pss_bytes(server.pid())
    finally:
        for imap in sessions:
            imap.close()
        server.stop()
    return [
        (Row("server without sessions", "MB", "less"), before / 1e6),
        (Row(f"server with {count} sessions in IDLE", "MB", "less"), after / 1e6),
        (Row("each session", "KB", "less"), (after - before) / count / 1e3),
    ]


def _measure_smtp(server: Server, count: int) -> Figures:
    """Sessions that have said EHLO and nothing since."""
    server.start()
    sessions: list[socket.socket] = []
    try:
        _greet(server).close()
        time.sleep(SETTLE_SECONDS)
        before = tree_pss_bytes(server.pid())
        sessions.extend(_greet(server) for _ in range(count))
        time.sleep(SETTLE_SECONDS)
        after = tree_pss_bytes(server.pid())
    finally:
        for session in sessions:
            session.close()
        server.stop()
    return [(Row(f"{count} idle SMTP sessions", "MB", "less", goal=40.0), (after - before) / 1e6)]


def _greet(server: Server) -> socket.socket:
    session = socket.create_connection((HOST, server.smtp_port), timeout=30)
    session.recv(512)
    session.sendall(b"EHLO idle.example.org\r\n")
    reply = b""
    while not smtp_status(reply):
        reply += session.recv(4096)
    return session


def _open(server: Server, name: str) -> Imap:
    imap = Imap(server.imap_port)
    imap.login(name)
    imap.command(b"SELECT INBOX")
    imap.idle()
    return imap


def tree_pss_bytes(root: int) -> int:
    """The proportional set size of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent(int(name))):
            children.setdefault(parent, []).append(int(name))
    total = 0
    todo = [root]
    while todo:
        pid = todo.pop()
        total += _pss_bytes(pid)
        todo.extend(children.get(pid, ()))
    return total


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0  # it has just ended


def _pss_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0
