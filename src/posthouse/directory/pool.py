"""One database server: its connections, and what is known of its state.

Invariants:
  1. A connection serves one caller; it goes back only with its answer read to the end. Whatever else happens
     (a caller that is cancelled too), it is closed.
  2. There are at most ``most`` connections in use; who comes later waits in order, ``WAIT_SECONDS`` at most, and
     not at all behind ``MOST_WAITING`` others.
  3. What is given up doesn't go on at the server where the driver can cancel it; elsewhere, and where cancelling
     fails, it waits for a lock no longer than ``LOCK_SECONDS``.
  4. Slow is not dead: a server whose answer takes long is given up when it doesn't take a new connection either.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from posthouse.directory.failures import Again, Denied, Failure, Full, Inexpressible, Lost, ReadOnly, Unusable, Wrong
from posthouse.runtime.log import log
from posthouse.runtime.measures import DATABASE_CHANGES

CONNECT_SECONDS = 0.9
"""How long logging in may take. With the first of ``ANSWER_SECONDS`` it makes less than 2 s, for everything."""
ANSWER_SECONDS = (0.5, 1.0, 5.0)
"""How long a look-up is waited for, each time after the first on a new connection."""
CHANGE_SECONDS = 30.0
"""How long a changing statement is waited for, while the server takes new connections: it may wait for a lock."""

WAIT_SECONDS = 5.0
"""How long somebody waits for a connection while others have them all, as they do while a table is locked."""
MOST_WAITING = 500
"""How many may wait so; mail that comes beyond them is better off with the peer."""

LOCK_SECONDS = 10
"""How long one statement waits for another transaction's lock, before its own begins again."""

State = Literal["new", "up", "read-only", "down"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in; ``port`` 0 is the usual one, ``unix`` a socket's path or empty."""

    host: str
    port: int
    unix: str
    user: str
    password: str
    database: str
    tls: ssl.SSLContext | None


class Connection(Protocol):
    """What ``MySqlConnection`` and ``PostgreSqlConnection`` have in common."""

    @property
    def is_usable(self) -> bool: ...
    async def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...
    async def change(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[tuple[Any, ...]], int]: ...
    async def change_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None: ...
    async def begin(self, *, read_only: bool = False) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def read_only(self) -> str: ...
    async def close(self) -> None: ...
    def abort(self) -> None: ...

    @property
    def is_cancelling(self) -> bool:
        """Whether ``close`` has a question to cancel that somebody gave up."""
        ...


class Server:
    """A server, by the address it is called in messages.

    ``on_doubt`` is called when it doesn't answer, ``on_change`` when ``state`` is another one.
    """

    def __init__(
        self,
        address: str,
        connect: Callable[[], Awaitable[Connection]],
        most: int,
        *,
        on_doubt: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self.address = address
        self.state: State = "new"
        self.reason = ""
        self.denies = False
        """Whether it didn't let us in when it was looked at last."""
        self._connect = connect
        self._most = most
        self._slots = asyncio.Semaphore(most)
        self._connecting = asyncio.Lock()
        self._idle: list[Connection] = []
        self._held = 0
        self._queued = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._check: asyncio.Task[bool] | None = None
        self._closing = set[asyncio.Task[None]]()
        self._on_doubt = on_doubt
        self._on_change = on_change

    # What is known of it

    def is_down(self) -> bool:
        return self.state == "down"

    def set_state(self, state: State, reason: str = "") -> None:
        """Note what is known now; a change is logged."""
        if state == self.state:
            self.reason = reason
            return
        before, self.state, self.reason = self.state, state, reason
        DATABASE_CHANGES.add(state)
        if state == "down":
            self._forget_idle()
            log.error("database-server-down", server=self.address, reason=reason)
        elif state == "read-only":
            log.warning("database-server-read-only", server=self.address, reason=reason)
        elif before != "new":
            log.warning("database-server-up", server=self.address)
        self._on_change()

    def check(self) -> "asyncio.Future[bool]":
        """Whether the server serves, by a new connection; who asks meanwhile gets the same answer."""
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._look())
        return asyncio.shield(self._check)

    async def _look(self) -> bool:
        connection, self.denies = None, False
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect()
                reason = await connection.read_only()
        except BaseException as error:
            if connection:
                connection.abort()
            if isinstance(error, Full) and self._held:
                return True  # it serves those that we have
            if not isinstance(error, Failure | TimeoutError):
                raise
            self.denies = isinstance(error, Denied)
            self.set_state("down", _reason(error))
            return False
        self._keep(connection)
        self.set_state("read-only" if reason else "up", reason)
        return True

    # Its connections

    async def acquire(self) -> Connection:
        """A connection for one caller, who gives it to ``release``. Raises ``Failure``, ``Full`` after a while."""
        if self._queued >= MOST_WAITING:
            raise Full(f"{self._queued} others wait for one of its {self._most} connections")
        self._queued += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise Full(f"its {self._most} connections have been in use for {WAIT_SECONDS} s") from None
        finally:
            self._queued -= 1
        try:
            if self._check is not None and not self._check.done():
                await asyncio.shield(self._check)
            connection = await self._one()
        except BaseException:
            self._slots.release()
            raise
        self._held += 1
        return connection

    async def _one(self) -> Connection:
        while True:
            if self.state == "down":
                raise Lost(self.reason)
            if connection := self._take_idle():
                return connection
            try:
                # One by one: who finds the server full can tell then whether that is because of us.
                async with self._connecting:
                    return self._take_idle() or await self._new()
            except Full as failure:
                if connection := self._take_idle():
                    return connection  # given back meanwhile
                if not self._held:
                    self.set_state("down", failure.reason)
                    raise
                # The server's limit is lower than ours: one of those that we have will be free soon.
                await self._wait_for_release(failure)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
        return None

    async def _new(self) -> Connection:
        if self.state == "down":
            raise Lost(self.reason)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect()
        except Full:
            raise
        except (Failure, TimeoutError) as error:
            self.set_state("down", _reason(error))
            raise Lost(self.reason) from error
        if self.state == "new":
            self.set_state("up")
        return connection

    async def _wait_for_release(self, failure: Full) -> None:
        released = asyncio.get_running_loop().create_future()
        self._waiting.append(released)
        try:
            async with asyncio.timeout(ANSWER_SECONDS[-1]):
                await released
        except TimeoutError:
            raise failure from None
        finally:
            if released in self._waiting:
                self._waiting.remove(released)

    def release(self, connection: Connection, *, is_sound: bool) -> None:
        """Take a connection back, to be used again only where it ``is_sound``."""
        self._held -= 1
        if is_sound:
            self._keep(connection)
        else:
            self._give_up(connection)
        self._slots.release()
        if self._waiting:
            released = self._waiting.popleft()
            if not released.done():
                released.set_result(None)

    def _give_up(self, connection: Connection) -> None:
        # Beside its slot, so that nobody waits for it; but no more at a time than there are slots.
        if connection.is_cancelling and self.state != "down" and len(self._closing) < self._most:
            task = asyncio.create_task(_close(connection))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        else:
            connection.abort()

    def _keep(self, connection: Connection) -> None:
        if connection.is_usable and len(self._idle) + self._held < self._most:
            self._idle.append(connection)
        else:
            connection.abort()

    def _forget_idle(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def close(self) -> None:
        if self._check is not None:
            self._check.cancel()
            with suppress(asyncio.CancelledError):
                await self._check
        idle, self._idle = self._idle, []
        for connection in idle:
            await _close(connection)
        if self._closing:
            await asyncio.wait(self._closing)

    # Asking

    async def query(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """All rows of a SELECT, asked again on a new connection where the first one is lost.

        Raises ``Failure`` (``Lost``, ``Unusable``, ``Full``: another server may do) and ``Inexpressible``.
        """
        for seconds in ANSWER_SECONDS:
            try:
                return await self._query(sql, parameters, seconds)
            except (Lost, TimeoutError):
                if self.state == "down" or not await self.doubt():
                    raise Lost(self.reason) from None
        raise Lost(f"no answer in {ANSWER_SECONDS[-1]} s, though it takes connections")

    async def _query(self, sql: str, parameters: Sequence[object], seconds: float) -> list[tuple[Any, ...]]:
        connection = await self.acquire()
        is_sound = False
        try:
            async with asyncio.timeout(seconds):
                rows = await connection.query(sql, parameters)
            is_sound = True
        except (Wrong, Again, ReadOnly, Inexpressible):
            is_sound = True
            raise
        except Unusable as failure:
            self.set_state("down", failure.reason)
            raise
        finally:
            self.release(connection, is_sound=is_sound)
        return rows

    async def doubt(self) -> bool:
        """Whether it still serves; the others are looked at in the same time."""
        self._forget_idle()
        self._on_doubt()
        return await self.check()

    async def patiently(self, connection: Connection, work: Awaitable[T]) -> T:
        """Wait for a change of ``connection``, as long as the server serves at all. Raises ``Lost``."""
        task = asyncio.ensure_future(work)
        waited = 0.0
        try:
            while True:
                done, _ = await asyncio.wait([task], timeout=ANSWER_SECONDS[0])
                if done:
                    return task.result()
                waited += ANSWER_SECONDS[0]
                if waited >= CHANGE_SECONDS:
                    raise Lost(f"no answer in {CHANGE_SECONDS:.0f} s")
                if not await self.check():
                    raise Lost(self.reason)
        finally:
            if not task.done():
                connection.abort()
                task.cancel()
                await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen


async def _close(connection: Connection) -> None:
    try:
        with suppress(Exception):
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.close()
    finally:
        connection.abort()


def _reason(error: Failure | TimeoutError) -> str:
    return error.reason if isinstance(error, Failure) else f"no answer in {CONNECT_SECONDS} s"
