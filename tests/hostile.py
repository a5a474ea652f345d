"""What attacks on a whole running server share: raw sockets that send without mercy, and the proof of no harm.

``unharmed(server)`` surrounds an attack: the same processes live after it, none has grown by more than so much at
any moment, nothing in the log speaks of a bug, and a session beside it was answered all the while.
"""

import contextlib
import select
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from tests.running import RunningServer

MEGABYTE = 1024 * 1024


def running(directory: Path, configuration: str = "") -> Iterator[RunningServer]:
    """A server with one worker, so that whoever is attacked and whoever is beside it are served by the same."""
    server = RunningServer(directory, configuration, workers=1)
    server.cli("domain", "add", "example.test")
    server.add_account("alice@example.test")
    server.add_account("bob@example.test")
    # A check of a hash takes 12 MB, which would be seen where the memory is measured.
    with contextlib.closing(sqlite3.connect(server.data / "posthouse.db")) as database, database:
        database.execute("UPDATE users SET clear = 'secret'")
    server.start()
    yield server
    server.stop()
    assert not bugs(server, 0)


def bugs(server: RunningServer, offset: int) -> list[bytes]:
    """Lines of the log, from an offset on, that should never be: errors, tracebacks, what isn't a log line."""
    with server.log_file.open("rb") as file:
        file.seek(offset)
        return [
            line
            for line in file
            if not line.startswith(b"{") or b'"level":"error"' in line or b'"exception":' in line
        ]


@contextlib.contextmanager
def unharmed(server: RunningServer, *, growth_bytes: int = 30 * MEGABYTE) -> Iterator[None]:
    """Nothing that happens within does the server any harm."""
    pids = server.pids()
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM starts anew
    before = {pid: _memory(pid, "VmRSS") for pid in pids}
    offset = server.log_file.stat().st_size
    with Bystander(server):
        yield
    assert server.pids() == pids
    wrong = bugs(server, offset)
    assert not wrong, wrong[:3]
    grown = {pid: _memory(pid, "VmHWM") - before[pid] for pid in pids}
    assert max(grown.values()) < growth_bytes, grown


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


class Bystander:
    """Bob, who reads his mail meanwhile and must be answered."""

    PATIENCE_SECONDS = 20.0

    def __init__(self, server: RunningServer) -> None:
        self.client = Client(server, "imap")
        self.client.sock.settimeout(self.PATIENCE_SECONDS)
        self.client.imap("LOGIN bob@example.test secret")
        self.answers = 0
        self.longest_seconds = 0.0
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.client.close()
        assert self.error is None, self.error
        assert self.answers

    def _ask(self) -> None:
        try:
            while True:
                start = time.monotonic()
                assert self.client.imap("NOOP").endswith(b"OK NOOP completed\r\n")
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - start)
                self.answers += 1
                if self._stop.wait(0.05):
                    return
        except Exception as error:
            self.error = error


class Client:
    """A raw connection to one service, its greeting read."""

    def __init__(self, server: RunningServer, service: str, *, greeted: bool = True) -> None:
        self.sock: socket.socket = server.connect(service)
        self._rest = b""
        self._tags = 0
        if service in {"submissions", "imaps", "pop3s"}:
            self.start_tls()
        if greeted:
            self.greeting = self.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()

    def reset(self) -> None:
        """Close without goodbye: the peer gets RST."""
        linger = (1).to_bytes(4, "little") + bytes(4)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bytes:
        """What comes next, nothing at the end."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        try:
            return self.sock.recv(262_144)
        except ConnectionError:
            return b""

    def line(self) -> bytes:
        """The next line; what there is at the end of the connection."""
        pieces = []
        while data := self.more():
            end = data.find(b"\n") + 1
            if end:
                pieces.append(data[:end])
                self._rest = data[end:]
                break
            pieces.append(data)
        return b"".join(pieces)

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        return b"".join(iter(self.more, b""))

    def smtp(self, command: bytes) -> bytes:
        """The reply to an SMTP command, all its lines."""
        self.send(command + b"\r\n")
        return self.reply()

    def reply(self) -> bytes:
        said = b""
        while line := self.line():
            said += line
            if line[3:4] != b"-":
                break
        return said

    def imap(self, command: str | bytes) -> bytes:
        """Everything up to the tagged response of an IMAP command."""
        self._tags += 1
        tag = b"t%d" % self._tags
        self.send(tag + b" " + (command if isinstance(command, bytes) else command.encode()) + b"\r\n")
        return self.until(tag + b" ")

    def until(self, start: bytes) -> bytes:
        """Everything up to a line that starts so, or to the end of the connection."""
        said = bytearray()
        while data := self.more():
            scan = max(0, len(said) - len(start) - 1)
            said += data
            at = 0 if said.startswith(start) else said.find(b"\n" + start, scan) + 1
            if (at or said.startswith(start)) and (end := said.find(b"\n", at) + 1):
                self._rest = bytes(said[end:])
                return bytes(said[:end])
            if at:  # its end is to come
                said += self.line()
                return bytes(said)
        return bytes(said)

    def flood(self, pieces: Iterable[bytes], *, finish: bool = True, seconds: float = 30.0) -> bytes:
        """Send without waiting for answers, reading along; everything that was said up to the connection's end.

        ``finish``: say that nothing follows, so that the server ends it too.
        """
        sock, said = self.sock, [self._rest]
        self._rest = b""
        sock.setblocking(False)
        queue, piece, deadline = iter(pieces), memoryview(b""), time.monotonic() + seconds
        writing = True
        while True:
            assert time.monotonic() < deadline, f"no end after {seconds} s"
            readable, writable, _ = select.select([sock], [sock] if writing else [], [], 1.0)
            try:
                if readable:
                    data = sock.recv(262_144)
                    if not data:
                        break
                    said.append(data)
                if writable:
                    if not piece:
                        following = next(queue, None)
                        if following is None:
                            writing = False
                            if finish:
                                sock.shutdown(socket.SHUT_WR)
                            continue
                        piece = memoryview(following)
                    piece = piece[sock.send(piece) :]
            except BlockingIOError:
                pass
            except OSError:  # reset, or not even connected any more
                break
        sock.settimeout(30)
        return b"".join(said)


def inbox(server: RunningServer, account: str = "alice@example.test") -> list[bytes]:
    """The messages in an account's INBOX as IMAP has them, the emptied INBOX left behind."""
    with Client(server, "imap") as client:
        client.imap(f"LOGIN {account} secret")
        count = int(client.imap("SELECT INBOX").partition(b" EXISTS")[0].rpartition(b"* ")[2])
        messages = []
        for number in range(1, count + 1):
            said = client.imap(f"FETCH {number} BODY.PEEK[]")
            head, _, body = said.partition(b"}\r\n")
            messages.append(body[: int(head.rpartition(b"{")[2])])
        if count:
            client.imap("STORE 1:* FLAGS.SILENT (\\Deleted)")
            client.imap("EXPUNGE")
        return messages


def tree(directory: Path) -> set[str]:
    """Every name below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}
