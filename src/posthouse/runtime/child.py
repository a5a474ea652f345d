"""A child process that does something as another Unix user, and is given a message on its standard input.

Invariants:
  1. The child is that user before it runs anything of that user's, in a process group of its own, with standard
     input and output and no other descriptor of ours.
  2. It takes ``seconds`` at most: then it is killed, with its process group and whatever it started.
  3. Of what it prints only the end is kept, however much that is; that it reads nothing is its own affair.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from posthouse.runtime import privileges
from posthouse.runtime.privileges import Identity

PR_SET_CHILD_SUBREAPER = 36
KEPT_OUTPUT = 4096
CANNOT_START = 78
"""The exit code where nothing was run: EX_CONFIG of sysexits.h."""
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: ``code`` is its exit code, or minus the signal. ``output``: the end of what it printed."""

    code: int
    output: bytes
    timed_out: bool = False
    abandoned: bool = False


def run(
    work: Callable[[], int],
    source: Iterator[bytes],
    *,
    identity: Identity | None,
    seconds: float,
    abandoned_when: int = -1,
) -> Ended:
    """Have a child do ``work`` (which may well exec), whose result is its exit code; ``source`` is what it may read.

    ``abandoned_when``: a descriptor of a socket; when its other end is closed nobody waits any more, and the child is
    killed. Call this in a process of its own: its children are all taken for the child's.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    stdin, to_child = os.pipe2(os.O_CLOEXEC)
    from_child, stdout = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(work, stdin, stdout, identity, parent)
    os.close(stdin)
    os.close(stdout)
    os.set_blocking(to_child, False)
    os.set_blocking(from_child, False)
    watch = _Watch(pid, to_child, from_child, source, time.monotonic() + seconds, abandoned_when)
    try:
        ended = watch.until_it_ends()
    except BaseException:
        _kill_all(pid)  # before it sees an end where there is none
        raise
    if ended.timed_out or ended.abandoned:
        _kill_all(pid)
    return ended


def _become(work: Callable[[], int], stdin: int, stdout: int, identity: Identity | None, parent: int) -> None:
    """The child; never returns."""
    code = CANNOT_START
    try:
        os.setsid()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stdout, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if identity is not None and (identity.uid, os.getgid()) != (os.geteuid(), identity.gid):
            privileges.drop(identity)
        privileges.die_with_parent(parent, signal.SIGKILL)
        for signum in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        os.umask(0o077)
        code = work()
    except BaseException as error:  # noqa: BLE001 - the process ends here whatever it is
        with contextlib.suppress(OSError):
            os.write(1, f"{error}\n".encode(errors="replace"))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


class _Watch:
    """Feeds the child, keeps the end of what it prints, and looks at the clock."""

    def __init__(
        self, pid: int, to_child: int, from_child: int, source: Iterator[bytes], deadline: float, abandoned_when: int
    ) -> None:
        self.pid = pid
        self.to_child = to_child
        self.from_child = from_child
        self.source = source
        self.deadline = deadline
        self.abandoned_when = abandoned_when
        self.waiting = memoryview(b"")
        self.output = b""
        self.process = os.pidfd_open(pid)

    def until_it_ends(self) -> Ended:
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return Ended(-signal.SIGKILL, self.output, timed_out=True)
            readers = [fd for fd in (self.from_child, self.process, self.abandoned_when) if fd >= 0]
            writers = [self.to_child] if self.to_child >= 0 else []
            readable, writable, _ = select.select(readers, writers, [], left)
            if self.from_child in readable:
                self._read()
            if writable:
                self._write()
            if self.process in readable:
                # What still has its output open, as a program in the background does, is not waited for.
                while self._read():
                    pass
                _, status = os.waitpid(self.pid, 0)
                return Ended(os.waitstatus_to_exitcode(status), self.output)
            if self.abandoned_when in readable:
                return Ended(-signal.SIGKILL, self.output, abandoned=True)

    def _read(self) -> bool:
        """Whether there was something. A background process that prints without end is not read for ever."""
        if self.from_child < 0 or time.monotonic() > self.deadline:
            return False
        try:
            data = os.read(self.from_child, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            os.close(self.from_child)
            self.from_child = -1
            return False
        self.output = (self.output + data)[-KEPT_OUTPUT:]
        return True

    def _write(self) -> None:
        try:
            if not self.waiting:
                self.waiting = memoryview(next(self.source))
            self.waiting = self.waiting[os.write(self.to_child, self.waiting) :]
        except BlockingIOError:
            pass
        except (StopIteration, BrokenPipeError):
            os.close(self.to_child)
            self.to_child = -1


def _kill_all(pid: int) -> None:
    """The child, its process group, and what has left that: as its subreaper we inherit all of it (prctl(2))."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    mine = f"/proc/self/task/{os.getpid()}/children"
    for _ in range(10_000):
        with open(mine) as file:
            children = [int(number) for number in file.read().split()]
        if not children:
            return
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
