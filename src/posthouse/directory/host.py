"""What resolving asks of this host itself: its Unix users, and files that local aliases include."""

import asyncio
import os
import pwd
import stat
from dataclasses import dataclass
from typing import Protocol

MAX_INCLUDED_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class UnixUser:
    """An entry of passwd(5)."""

    name: str
    uid: int
    gid: int
    homedir: str


class Host(Protocol):
    """This host, or what a test takes for it."""

    async def user(self, name: str) -> UnixUser | None: ...

    async def included(self, path: str) -> str:
        """The text of a file. Raises ``OSError``, and ``ValueError`` for what no list of addresses is."""
        ...


class ThisHost:
    """The real one: in threads, for users may come over the network and files from disks that are slow."""

    async def user(self, name: str) -> UnixUser | None:
        return await asyncio.to_thread(_user, name)

    async def included(self, path: str) -> str:
        return await asyncio.to_thread(_read, path)


def _user(name: str) -> UnixUser | None:
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: what can't be a name
        return None
    return UnixUser(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def _read(path: str) -> str:
    # A pipe without a writer would hold the thread for ever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(MAX_INCLUDED_BYTES + 1)
    if len(content) > MAX_INCLUDED_BYTES:
        raise ValueError(f"it is larger than {MAX_INCLUDED_BYTES} bytes")
    return content.decode("utf-8", "replace")
