"""How a process hears that rows have changed, so that it forgets what it knew.

SQLite says itself whether another connection has changed the file. With a database on the network there are two ways:
a file in the data directory whose time changes with every change that this host makes, and, for those of other hosts,
the version that the database keeps, asked every second beside everything else.
"""

import asyncio
import os
import pwd
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.directory.database import Database

ASK_SECONDS = 1.0


class Changes(Protocol):
    """``look``: whether something has changed since the last look; cheap. Raises ``TryLater``."""

    async def look(self) -> bool: ...

    def announce(self) -> None:
        """Something was changed by this process."""
        ...

    async def start(self) -> None:
        """Called before anything is asked for."""
        ...

    async def stop(self) -> None: ...


class FileChanges:
    """Of an SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = -1

    async def look(self) -> bool:
        version = await self._database.version()
        is_new = version != self._version
        self._version = version
        return is_new

    def announce(self) -> None:
        """The file itself does."""

    async def start(self) -> None:
        """There is nothing to do beside look-ups."""

    async def stop(self) -> None: ...


class NetworkChanges:
    """Of a database on the network. ``on_answer`` is called whenever the database has answered."""

    def __init__(self, database: Database, settings: Settings, on_answer: Callable[[], None]) -> None:
        self._database = database
        self._path = settings.path("directory.stamp")
        self._user = settings.user
        self._on_answer = on_answer
        self._stamp = self._read_stamp()
        self._version: int | None = None
        self._has_changed = False
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> bool:
        stamp = self._read_stamp()
        is_new, self._stamp, self._has_changed = stamp != self._stamp or self._has_changed, stamp, False
        return is_new

    def announce(self) -> None:
        """Tell the other processes of this host. What fails here the version makes good within a second."""
        try:
            self._write_stamp()
        except (OSError, KeyError):
            pass

    async def start(self) -> None:
        # The first answer drops what is known: better now than a second later, when no server may be there any more.
        await self.ask()
        self._task = asyncio.get_running_loop().create_task(self._ask())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def ask(self) -> None:
        """Ask the database for its version.

        The first answer is news as well: what is known by then may be older than it.
        """
        try:
            version = await self._database.version()
        except TryLater:
            return
        if version != self._version:
            self._has_changed = True
        self._version = version
        self._on_answer()

    async def _ask(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        while True:
            await pause(ASK_SECONDS)
            await self.ask()

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _write_stamp(self) -> None:
        # Not through a link: root's command line would touch whatever the serving user likes.
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            if self._user and os.geteuid() == 0:
                owner = pwd.getpwnam(self._user)
                os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        except FileExistsError:
            descriptor = os.open(self._path, flags)
        try:
            os.utime(descriptor, ns=(time.time_ns(), time.time_ns()))
        finally:
            os.close(descriptor)
