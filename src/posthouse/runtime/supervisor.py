"""The supervisor: starts the processes, starts them again when they die, and does nothing else.

SIGTERM or SIGINT drains: each process is asked to finish. A second one ends them at once. SIGHUP replaces all
processes by new ones that read the configuration afresh; the old ones finish the sessions they have.

Invariants:
  1. No thread and no event loop lives here, so that fork is safe.
  2. Signals are blocked and taken one at a time: nothing runs between instructions.
  3. A process that dies young is started again with growing pauses, never in a tight loop.
"""

import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.runtime import privileges
from posthouse.runtime.log import log
from posthouse.runtime.measures import DEATHS, RELOADS

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
YOUNG_SECONDS = 10.0
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Role:
    """A process to keep running. ``run`` is called in it with what it calls once it is ready to serve."""

    name: str
    run: Callable[[Callable[[], None]], None]


@dataclass(slots=True)
class Child:
    role: Role
    pid: int
    started: float
    retired: bool = False


@dataclass(slots=True)
class Supervisor:
    """Keeps ``roles`` running until it is told to stop.

    ``reload`` makes new roles for SIGHUP, or raises with what is wrong. ``on_ready`` is called once, when every
    process serves; ``on_stop`` once, when it begins to drain.
    """

    roles: list[Role]
    reload: Callable[[], list[Role]]
    on_ready: Callable[[], None]
    drain_seconds: float = 30.0
    on_stop: Callable[[], None] = lambda: None
    _children: dict[int, Child] = field(default_factory=dict)
    _pauses: dict[str, float] = field(default_factory=dict)
    _due: list[tuple[float, Role]] = field(default_factory=list)
    _stop_at: float = 0.0
    _stopping: bool = False

    def run(self) -> int:
        """Serve until stopped. Returns the exit code: 0 after a drain, 1 if a process never became ready."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if not self._start_all(self.roles):
            self._signal_all(signal.SIGKILL)
            self._reap()
            return 1
        self.on_ready()
        notify_systemd("READY=1")
        while self._children or self._due:
            self._step()
        return 0

    def _start_all(self, roles: list[Role]) -> bool:
        reader, writer = os.pipe()
        try:
            return _all_ready(reader, [self._start(role, writer) for role in roles])
        finally:
            os.close(reader)
            os.close(writer)

    def _step(self) -> None:
        got = signal.sigtimedwait(SIGNALS, self._seconds_to_next_event())
        match got.si_signo if got else 0:
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP if not self._stopping:
                self._replace_all()
            case _:
                pass
        self._reap()
        now = time.monotonic()
        for due in [due for due in self._due if due[0] <= now]:
            self._due.remove(due)
            self._start(due[1])
        if self._stopping and now >= self._stop_at:
            self._signal_all(signal.SIGKILL)

    def _seconds_to_next_event(self) -> float:
        events = [at for at, _ in self._due]
        if self._stopping:
            events.append(self._stop_at)
        return min(60.0, max(0.0, min(events) - time.monotonic())) if events else 60.0

    def _stop(self) -> None:
        if self._stopping:
            log.warning("stopping-at-once")
            self._stop_at = time.monotonic()
            return
        log.info("draining", processes=len(self._children), seconds=self.drain_seconds)
        notify_systemd("STOPPING=1")
        self._stopping = True
        self.on_stop()
        self._due.clear()
        self._stop_at = time.monotonic() + self.drain_seconds + 5.0
        self._signal_all(signal.SIGTERM)

    def _replace_all(self) -> None:
        try:
            roles = self.reload()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new set-up, the old one goes on
            log.error("reload-refused", reason=str(error))
            RELOADS.add("refused")
            return
        old = {pid for pid, child in self._children.items() if not child.retired}
        before = set(self._children)
        is_ready = self._start_all(roles)
        for pid in old if is_ready else self._children.keys() - before:
            self._children[pid].retired = True
            _kill(pid, signal.SIGTERM)
        if not is_ready:
            RELOADS.add("refused")
            log.error("reload-incomplete", reason="a new process did not get ready, so the old ones go on; see above")
            return
        self.roles = roles
        self._due.clear()
        RELOADS.add("done")
        log.info("reloaded", processes=len(roles))

    def _start(self, role: Role, ready_pipe: int = -1) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run_child(role, parent, ready_pipe)
        self._children[pid] = Child(role, pid, time.monotonic())
        log.debug("process-started", role=role.name, pid=pid)
        return pid

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None and not child.retired and not self._stopping:
                self._restart_later(child, os.waitstatus_to_exitcode(status))

    def _restart_later(self, child: Child, code: int) -> None:
        name, age = child.role.name, time.monotonic() - child.started
        pause = FIRST_PAUSE_SECONDS
        if age < YOUNG_SECONDS:
            pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pauses.get(name, FIRST_PAUSE_SECONDS / 2))
        self._pauses[name] = pause
        DEATHS.add(name)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("process-died", role=name, pid=child.pid, how=how, age_seconds=round(age, 1), restart_seconds=pause)
        self._due.append((time.monotonic() + pause, child.role))

    def _signal_all(self, signum: int) -> None:
        for pid in self._children:
            _kill(pid, signum)


def _run_child(role: Role, parent: int, ready_pipe: int) -> None:
    """The forked process; never returns."""
    code = 1
    try:
        privileges.die_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

        def ready() -> None:
            if ready_pipe >= 0:
                os.write(ready_pipe, b"R")
                os.close(ready_pipe)

        role.run(ready)
        code = 0
    except KeyboardInterrupt:
        code = 0
    except BaseException as error:  # noqa: BLE001 - the last line of defence of a process
        log.error("process-failed", role=role.name, reason=repr(error), exception=traceback.format_exc())
    finally:
        os._exit(code)


def _all_ready(reader: int, pids: list[int]) -> bool:
    """Whether each of these processes says so before one ends or the time is over."""
    deadline = time.monotonic() + READY_SECONDS
    seen = 0
    while seen < len(pids):
        readable, _, _ = select.select([reader], [], [], 0.1)
        if readable:
            seen += len(os.read(reader, len(pids)))
        elif time.monotonic() > deadline or any(map(_has_ended, pids)):
            return False
    return True


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass


def notify_systemd(state: str) -> None:
    """Tell systemd, if it started us with ``Type=notify`` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            log.warning("systemd-not-told", state=state, reason=str(error))
