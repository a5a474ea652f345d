"""A process that forks for each question on its Unix socket, so that what is asked may block, leak or crash.

Invariants:
  1. Only the user that serves, and root, are heard (unix(7), SO_PEERCRED).
  2. This process reads no question: it is a fork that asks, answers and ends.
  3. A fork lives ``seconds`` at most, and there are ``max_at_once`` of them; who comes later waits in line.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.runtime import privileges
from posthouse.runtime.log import log
from posthouse.runtime.privileges import Identity

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7))
_RELEVANT = {signal.SIGTERM, signal.SIGCHLD}


@dataclass(slots=True)
class ForkServer:
    """Answers on the Unix socket ``path`` until SIGTERM. Its files are made as ``identity`` (None: as we are).

    ``answer`` is called in the fork with the connection, and is to let nothing escape. ``name`` begins the events
    in the log: NAME-stranger, NAME-timeout, and ``crashed``.
    """

    name: str
    crashed: str
    path: str
    answer: Callable[[socket.socket], None]
    seconds: float
    max_at_once: int
    identity: Identity | None = None
    facts: dict[str, object] = field(default_factory=dict[str, object])
    _forks: dict[int, float] = field(default_factory=dict[int, float], init=False)

    def run(self, ready: Callable[[], None]) -> None:
        """Raises ``OSError`` when the socket can't be made."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _RELEVANT)
        wakeup, wakeup_end = socket.socketpair()
        wakeup.setblocking(False)
        wakeup_end.setblocking(False)
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        stopping: list[int] = []
        signal.signal(signal.SIGTERM, lambda signum, _frame: stopping.append(signum))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _RELEVANT)
        with self._listen() as listener:
            ready()
            while not stopping:
                self._wait([listener] if len(self._forks) < self.max_at_once else [], wakeup)
            # A successor may have our place by now; what connected before that is still ours to answer.
            while self._forks or _is_readable(listener):
                if not self._accept(listener) and self._forks:
                    self._wait([], wakeup)

    def _listen(self) -> socket.socket:
        """The socket under its name, in one step: whoever connects meanwhile gets us or our predecessor.

        Its directory is the serving user's, who could have laid a link anywhere there. It is made with that user's
        rights, so that root neither follows one nor gives a file away.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        temporary = f"{self.path}.{os.getpid()}"
        umask = os.umask(0o177)
        try:
            with _as(self.identity):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                listener.bind(temporary)
                listener.listen(128)
                os.rename(temporary, self.path)
        except OSError as error:
            listener.close()
            raise OSError(error.errno, f"cannot listen there for questions: {error}", self.path) from error
        finally:
            os.umask(umask)
        return listener

    def _wait(self, listeners: list[socket.socket], wakeup: socket.socket) -> None:
        """Wait for anything to happen, and see to it."""
        seconds = max(0.0, min(self._forks.values()) - time.monotonic()) if self._forks else None
        readable, _, _ = select.select([*listeners, wakeup], [], [], seconds)
        if wakeup in readable:
            with contextlib.suppress(BlockingIOError):
                wakeup.recv(4096)
        self._end_overdue()
        self._reap()
        for listener in listeners:
            self._accept(listener)

    def _accept(self, listener: socket.socket) -> bool:
        """Whether there was somebody."""
        if len(self._forks) >= self.max_at_once:
            return False
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return False
        with connection:
            uid = _uid_of(connection)
            if uid not in {0, self.identity.uid if self.identity else os.geteuid()}:
                log.warning(
                    f"{self.name}-stranger", uid=uid, reason="only the user that serves may ask; not answered"
                )
                return True
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                self._answer(parent, listener, connection)
            self._forks[pid] = time.monotonic() + self.seconds
        return True

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for pid in [pid for pid, deadline in self._forks.items() if deadline <= now]:
            log.warning(f"{self.name}-timeout", **self.facts, seconds=self.seconds, reason="it hangs")
            self._forks[pid] = now + 1.0
            os.kill(pid, signal.SIGKILL)  # ours until it is reaped

    def _reap(self) -> None:
        # No other child is waited for: who answers has theirs in the forks.
        for pid in list(self._forks):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._forks[pid]
                code = os.waitstatus_to_exitcode(status)
                if code not in {0, -signal.SIGKILL}:
                    log.error(self.crashed, **self.facts, how=_how(code))

    def _answer(self, parent: int, listener: socket.socket, connection: socket.socket) -> None:
        """The fork: one question, one answer. Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
                signal.signal(signum, signal.SIG_DFL)  # what is asked starts programs, and waits for them
            privileges.die_with_parent(parent, signal.SIGKILL)
            listener.close()
            connection.settimeout(self.seconds)
            self.answer(connection)
        except OSError as error:
            log.debug(f"{self.name}-nobody-waits", reason=str(error))
        except BaseException as error:  # noqa: BLE001 - the process ends here whatever it is
            log.error(f"{self.name}-failed", reason=type(error).__name__)  # not the text: what failed may be in it
        finally:
            os._exit(0)


@contextlib.contextmanager
def _as(identity: Identity | None):
    """Make files as that user."""
    if identity is None or os.geteuid() != 0:
        yield
        return
    gid = os.getegid()
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)


def _uid_of(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1]


def _is_readable(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
