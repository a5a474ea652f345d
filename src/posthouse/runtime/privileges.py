"""Giving up root, and refusing to serve the world with it."""

import codecs
import contextlib
import ctypes
import grp
import os
import pwd
import resource
import signal
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


@dataclass(frozen=True, slots=True)
class Identity:
    """The Unix user that serves."""

    name: str
    uid: int
    gid: int


def look_up(user: str) -> Identity:
    """The user by name. Raises ``KeyError`` when there is none."""
    entry = pwd.getpwnam(user)
    return Identity(user, entry.pw_uid, entry.pw_gid)


CODECS = ("ascii", "idna", "latin-1", "utf-8")


def drop(identity: Identity) -> None:
    """Become that user for good: groups first, then gid, then uid, and make sure there is no way back."""
    for name in CODECS:  # loaded when they are first used: that user may not be allowed to read where they lie
        codecs.lookup(name)
    os.setgroups([group.gr_gid for group in grp.getgrall() if identity.name in group.gr_mem] or [identity.gid])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    with contextlib.suppress(PermissionError):
        os.setuid(0)
        raise RuntimeError(f"still able to become root after dropping to {identity.name}")


def die_with_parent(parent: int, signum: int = signal.SIGTERM) -> None:
    """Have the kernel send ``signum`` when the supervisor is gone. After ``drop``, which resets it (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def leave_no_core() -> None:
    """Have the kernel write no image of this process's memory, and let nobody look into it (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0)


def raise_file_limit() -> None:
    """As many open files as the system allows: each session is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
