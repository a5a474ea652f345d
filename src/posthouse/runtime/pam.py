"""The process that asks PAM whether a Unix user's password is right.

Modules need root, and block, leak and crash; so none of them runs in a process that serves mail, nor in this one: it
forks for each question, and the fork asks, answers and ends.

Invariants:
  1. Only the user that serves, and root, are heard (unix(7), SO_PEERCRED).
  2. This process reads no question: passwords are only ever in a fork's memory, and gone with it.
  3. A fork lives ``MODULE_SECONDS`` at most, and there are ``MAX_AT_ONCE`` of them; who comes later waits in line.
  4. Root, and users below ``minimum_uid``, are refused before any module hears of them.
"""

import contextlib
import os
import pwd
import re
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.runtime import privileges
from posthouse.runtime.libpam import LibPam, PamError
from posthouse.runtime.log import log
from posthouse.runtime.privileges import Identity

MODULE_SECONDS = 10.0
MAX_AT_ONCE = 16
MAX_QUESTION = 4096
USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
"""A Unix user's name, as adduser(8) would have it."""

YES, NO, TROUBLE = b"yes", b"no", b"trouble "
_LENGTH = struct.Struct("!H")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7))
_RELEVANT = {signal.SIGTERM, signal.SIGCHLD}


def question(user: str, password: bytes, address: str) -> bytes:
    """What is sent to the process; it answers ``YES``, ``NO`` or ``TROUBLE`` and a reason, then closes.

    Raises ``ValueError`` for what no question can hold: no user is called that, or has that password.
    """
    fields = (user.encode(), password, address.encode())
    if any(b"\0" in each for each in fields) or sum(map(len, fields)) > MAX_QUESTION - 2:
        raise ValueError("a NUL, or too long")
    content = b"\0".join(fields)
    return _LENGTH.pack(len(content)) + content


@dataclass(slots=True)
class PamProcess:
    """Answers on the Unix socket ``path`` until SIGTERM. Its files are made as ``identity`` (None: as we are)."""

    path: str
    service: str
    minimum_uid: int
    identity: Identity | None = None
    module_seconds: float = MODULE_SECONDS
    max_at_once: int = MAX_AT_ONCE
    _forks: dict[int, float] = field(default_factory=dict[int, float], init=False)
    _pam: LibPam = field(default_factory=LibPam, init=False)

    def run(self, ready: Callable[[], None]) -> None:
        """Raises ``OSError`` when the socket can't be made."""
        self._warn()
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

    def _warn(self) -> None:
        if os.geteuid() != 0:
            log.warning("pam-without-root", reason="most modules check only our own password then: start as root")
        if service_file(self.service) is None:
            reason = "there is no such file in /etc/pam.d, so PAM goes by the service 'other'"
            log.warning("pam-service-missing", service=self.service, reason=reason)

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
            raise OSError(error.errno, f"cannot listen there for PAM's questions: {error}", self.path) from error
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
                log.warning("pam-stranger", uid=uid, reason="only the user that serves may ask; not answered")
                return True
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                self._answer(parent, listener, connection)
            self._forks[pid] = time.monotonic() + self.module_seconds
        return True

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for pid in [pid for pid, deadline in self._forks.items() if deadline <= now]:
            log.warning("pam-timeout", service=self.service, seconds=self.module_seconds, reason="a module hangs")
            self._forks[pid] = now + 1.0
            os.kill(pid, signal.SIGKILL)  # ours until it is reaped

    def _reap(self) -> None:
        # No other child is waited for: PAM modules have theirs in the forks.
        for pid in list(self._forks):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._forks[pid]
                code = os.waitstatus_to_exitcode(status)
                if code not in {0, -signal.SIGKILL}:
                    log.error("pam-module-crashed", service=self.service, how=_how(code))

    def _answer(self, parent: int, listener: socket.socket, connection: socket.socket) -> None:
        """The fork: one question, one answer. Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
                signal.signal(signum, signal.SIG_DFL)  # modules start programs, and wait for them
            privileges.die_with_parent(parent, signal.SIGKILL)
            privileges.leave_no_core()  # a module that crashes would write the password to disk
            listener.close()
            connection.settimeout(self.module_seconds)
            answer = self._ask(_receive(connection))
            connection.sendall(_LENGTH.pack(len(answer)) + answer)
        except OSError as error:
            log.debug("pam-nobody-waits", reason=str(error))
        except BaseException as error:  # noqa: BLE001 - the process ends here whatever it is
            log.error("pam-failed", reason=type(error).__name__)  # not the text: what failed may be in it
        finally:
            os._exit(0)

    def _ask(self, content: bytes) -> bytes:
        """The answer to a question."""
        parts = content.split(b"\0")
        if len(parts) != 3:
            return TROUBLE + b"not a question"
        user, password, address = parts
        if not self._may_be_asked(user):
            return NO
        try:
            return YES if self._pam.check(self.service, user, password, address) else NO
        except PamError as error:
            return TROUBLE + str(error).encode()

    def _may_be_asked(self, user: bytes) -> bool:
        name = user.decode(errors="replace")
        if not USER.fullmatch(name):
            return False
        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            return False
        return uid >= max(1, self.minimum_uid)


def service_file(service: str) -> str | None:
    """Where PAM has this service, or None: then it takes the service ``other`` (pam.conf(5))."""
    places = (f"/etc/pam.d/{service}", f"/usr/lib/pam.d/{service}", f"/usr/share/pam.d/{service}")
    return next(filter(os.path.exists, places), None)


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


def _receive(connection: socket.socket) -> bytes:
    """The question. Raises ``OSError``."""
    data = b""
    while len(data) < 2 or len(data) < 2 + _LENGTH.unpack_from(data)[0]:
        received = connection.recv(MAX_QUESTION + 3)
        if not received or len(data) > MAX_QUESTION + 2:
            raise ConnectionAbortedError("no whole question")
        data += received
    return data[2:]


def _uid_of(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1]


def _is_readable(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
