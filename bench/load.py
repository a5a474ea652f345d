"""One lean client for every protocol of lines: many sessions in one thread, over epoll.

The client runs on the cores of the server it measures, so it does next to nothing: what is sent was built before
the clock starts, and of a reply it looks at the last line's first octets. Its own CPU time is part of the result.
"""

import errno
import gc
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.servers import HOST

STALL_SECONDS = 60.0
MOST_FAILURES = 100
READ_BYTES = 65_536
SEND_BUFFER_BYTES = 262_144

Exchange = tuple[bytes | Callable[[bytes], bytes], bytes]
"""What to send, or what makes it of the reply before; and how the last line of the reply must begin."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What the sessions say.

    ``greeting``: how the server's first line must begin. ``opening``: once a session. ``units``: what is counted and
    timed; the n-th of the whole run is ``units[n % len(units)]``. ``closing``: sent at the end of a session, which is
    then read to its end. ``status``: the last line of a reply, or nothing while it isn't whole.
    """

    greeting: bytes
    opening: tuple[Exchange, ...]
    units: Sequence[tuple[Exchange, ...]]
    closing: bytes
    status: Callable[[bytes], bytes]


@dataclass(slots=True)
class Outcome:
    """``seconds``: from the first connection to the last unit's end. ``latencies``: of each unit, in seconds."""

    seconds: float = 0.0
    started: float = 0.0
    latencies: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    """How often each of the dialogue's units was done."""
    failures: int = 0
    first_failure: str = ""
    client_cpu_seconds: float = 0.0

    @property
    def done(self) -> int:
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0

    def percentile(self, fraction: float) -> float:
        """In seconds; 0 if nothing was done."""
        if not self.latencies:
            return 0.0
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


@dataclass(slots=True, eq=False)
class _Session:
    sock: socket.socket
    todo: deque[Exchange]
    """What is still to be said of the opening or the unit; the first one's reply is awaited."""
    begun: float
    unit: int = -1
    left: int = 0
    """Units that this session may still do; negative: no limit."""
    is_closing: bool = False
    received: bytes = b""
    unsent: bytes = b""


class Load:
    """``sessions`` sessions at a time for ``seconds``; units that were begun are brought to their end.

    ``per_session``: units in one connection, 0: as many as there is time for.
    """

    def __init__(self, port: int, dialogue: Dialogue, *, sessions: int, seconds: float, per_session: int = 1) -> None:
        self._address = (HOST, port)
        self._dialogue = dialogue
        self._sessions = sessions
        self._seconds = seconds
        self._per_session = per_session or -1
        self._epoll = select.epoll()
        self._open: dict[int, _Session] = {}
        self._next = 0
        self._deadline = 0.0
        self._outcome = Outcome(counts=[0] * len(dialogue.units))

    def run(self) -> Outcome:
        outcome = self._outcome
        gc.collect()
        gc.disable()
        cpu = _cpu_seconds()
        outcome.started = time.perf_counter()
        self._deadline = outcome.started + self._seconds
        try:
            for _ in range(self._sessions):
                self._connect()
            self._loop()
        finally:
            gc.enable()
            for session in list(self._open.values()):
                self._drop(session)
            self._epoll.close()
        outcome.client_cpu_seconds = _cpu_seconds() - cpu
        return outcome

    def _loop(self) -> None:
        while self._open:
            events = self._epoll.poll(STALL_SECONDS)
            if not events:
                self._note(f"no answer for {STALL_SECONDS:.0f} s in {len(self._open)} sessions", len(self._open))
                return
            for descriptor, mask in events:
                session = self._open[descriptor]
                try:
                    if session.unsent and mask & select.EPOLLOUT:
                        self._send(session, session.unsent)
                    if mask & ~select.EPOLLOUT:
                        self._read(session)
                except OSError as error:
                    self._failed(session, str(error))
            if self._outcome.failures > MOST_FAILURES:
                return

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # The server has closed first when we do: a reset then leaves no port waiting.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        begun = time.perf_counter()
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self._note(f"connect: {errno.errorcode.get(code, code)}")
            return
        todo: deque[Exchange] = deque(((b"", self._dialogue.greeting), *self._dialogue.opening))
        session = _Session(sock, todo, begun, left=self._per_session)
        self._open[sock.fileno()] = session
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, session: _Session) -> None:
        try:
            data = session.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        if session.is_closing:
            if not data:
                self._drop(session)
                self._replace()
            return
        if not data:
            self._failed(session, f"closed by the server before {str(session.todo[0][0])[:40]} was answered")
            return
        if session.received:
            data = session.received + data
        status = self._dialogue.status(data)
        if not status:
            session.received = data
            return
        session.received = b""
        if not status.startswith(session.todo.popleft()[1]):
            self._failed(session, repr(status[:200]))
            return
        if not session.todo:
            self._next_unit(session)
        if session.todo:
            say = session.todo[0][0]
            self._send(session, say if isinstance(say, bytes) else say(data))

    def _next_unit(self, session: _Session) -> None:
        """The opening or a unit is done: the next unit, or the end of the session."""
        now = time.perf_counter()
        units = self._dialogue.units
        if session.unit >= 0:
            outcome = self._outcome
            outcome.latencies.append(now - session.begun)
            outcome.counts[session.unit] += 1
            outcome.seconds = now - outcome.started
            session.begun = now  # of a session's first unit, the latency has the connection and the opening in it
        if session.left == 0 or now >= self._deadline:
            session.is_closing = True
            self._send(session, self._dialogue.closing)
            return
        session.left -= 1
        session.unit = self._next % len(units)
        self._next += 1
        session.todo.extend(units[session.unit])

    def _send(self, session: _Session, data: bytes) -> None:
        try:
            sent = session.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            if session.unsent:
                session.unsent = b""
                self._epoll.modify(session.sock.fileno(), select.EPOLLIN)
            return
        session.unsent = data[sent:]
        self._epoll.modify(session.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _failed(self, session: _Session, reason: str) -> None:
        self._drop(session)
        if not session.is_closing:  # then it is a reset instead of a farewell
            self._note(reason)
        self._replace()

    def _note(self, reason: str, count: int = 1) -> None:
        self._outcome.failures += count
        self._outcome.first_failure = self._outcome.first_failure or reason

    def _replace(self) -> None:
        if time.perf_counter() < self._deadline and self._outcome.failures <= MOST_FAILURES:
            self._connect()

    def _drop(self, session: _Session) -> None:
        del self._open[session.sock.fileno()]
        session.sock.close()


def smtp_status(data: bytes) -> bytes:
    """The last line of an SMTP reply (RFC 5321 §4.2.1), once it is there."""
    if data[-1:] != b"\n":
        return b""
    start = data.rfind(b"\n", 0, -1) + 1
    return data[start:] if data[start + 3 : start + 4] == b" " else b""


def imap_status(data: bytes) -> bytes:
    """The last line of an IMAP reply whose tag is ``a``, a greeting, or a line that asks for more."""
    if data[-1:] != b"\n":
        return b""
    line = data[data.rfind(b"\n", 0, -1) + 1 :]
    return line if line.startswith((b"a ", b"+ ", b"* OK")) else b""


def pop3_status(data: bytes) -> bytes:
    """A POP3 reply of one line."""
    return data if data[-1:] == b"\n" else b""


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
