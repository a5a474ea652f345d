"""The directory on MariaDB, MySQL or PostgreSQL, with several servers in order of preference.

Invariants:
  1. Every question goes to the most preferred server that serves just now. One that is dead, hangs, or says that it
     can't serve is passed over at once, looked at every ``LOOK_SECONDS``, and used again as soon as it serves.
  2. While all are known to be down, the answer is ``TryLater`` at once: mail doesn't queue up behind time limits.
  3. A change is done once or not at all. It is repeated only while nothing of it can have been committed; when the
     answer to COMMIT is lost nobody knows, and ``TryLater`` says so.
"""

import asyncio
import contextlib
import importlib
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.directory.database import Transaction
from posthouse.directory.failures import (
    Again,
    Failure,
    Full,
    Inexpressible,
    Lost,
    ReadOnly,
    Unusable,
    Violated,
)
from posthouse.directory.pool import CHANGE_SECONDS, Connection, Login, Server, State
from posthouse.runtime.log import log

if TYPE_CHECKING:
    from sqlalchemy import Executable

LOOK_SECONDS = 1.0
"""How often a server that isn't fully usable is looked at."""
_TRIES = 8
"""How often a transaction is begun at most."""
_ROWS_AT_ONCE = 2000
"""Rows that are sent in one go: well within the time that a statement has."""
_SCHEMES: dict[str, Literal["mysql", "postgresql"]] = {
    "mysql": "mysql",
    "mariadb": "mysql",
    "postgresql": "postgresql",
    "postgres": "postgresql",
}
T = TypeVar("T")


def import_driver(settings: Settings) -> None:
    """Load what talks to the configured servers now rather than at the first connection; nothing for SQLite."""
    scheme = _SCHEMES.get(settings.database.url.partition(":")[0])
    if scheme is not None:
        importlib.import_module(f"posthouse.directory.{scheme}")


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server as it was found last; ``reason`` says why it isn't ``up``."""

    address: str
    state: State
    reason: str


class Servers:
    """A ``Database`` on servers of which one at least has to serve.

    For MySQL a per cent sign in SQL text is written twice. Text that the database can't express (half a surrogate
    pair; NUL in PostgreSQL) is in no row: ``query`` finds nothing then, and changing raises ``ValueError``.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises ``TryLater`` for a URL that can't be."""
        self._settings = settings
        url = settings.database.url
        try:
            self._url = urlsplit(url)
            self.dialect: Literal["mysql", "postgresql"] = _SCHEMES[self._url.scheme]
            places = [_place(host) for host in settings.database.hosts or (self._url.netloc.rpartition("@")[2],)]
        except (KeyError, ValueError):
            raise TryLater(f"database.url or database.hosts can't be understood: {_without_password(url)}") from None
        self._database = unquote(self._url.path.lstrip("/"))
        self._user = unquote(self._url.username or "")
        self.name = f"{self._url.scheme} {self._database} on " + ", ".join(map(_written, places))
        self._secrets: tuple[str, ssl.SSLContext | None] | None = None
        self._trouble = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._servers = [self._server(place) for place in places]

    def _server(self, place: tuple[str, int, str]) -> Server:
        return Server(
            _written(place),
            lambda: self._connect(*place),
            self._settings.database.connections,
            on_doubt=self._look_at_others,
            on_change=self._changed,
        )

    async def open(self, *, may_be_away: bool = False) -> None:
        """Connect to the servers; one of them has to serve, unless they ``may_be_away``. Raises ``TryLater``.

        Servers that are there and don't let us in are a mistake that waiting doesn't mend: that is raised always.
        """
        try:
            self._secrets = self._read_secrets()
        except OSError as error:
            raise TryLater(f"database.password_file or database.ca: {error}") from error
        await asyncio.gather(*(server.check() for server in self._servers))
        if not may_be_away or all(server.denies for server in self._servers):
            await self._close_unless_one_serves()
        self._watcher = asyncio.create_task(self._watch())

    async def _close_unless_one_serves(self) -> None:
        if all(server.is_down() for server in self._servers):
            reason = self._unreachable()
            await self.close()
            raise reason

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        for server in self._servers:
            await server.close()

    def status(self) -> tuple[ServerStatus, ...]:
        """All servers, in order of preference."""
        return tuple(ServerStatus(server.address, server.state, server.reason) for server in self._servers)

    # Asking

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT, from the first server that answers. Raises ``TryLater``, in 2 s where none serves."""
        slow: Failure | None = None
        for server in self._servers:
            if server.state == "down":
                continue
            try:
                return await server.query(sql, parameters)
            except (Lost, Unusable, Full) as failure:
                slow = None if server.is_down() else failure
            except Inexpressible:
                return []
            except Failure as failure:
                raise self._named(failure) from failure
        raise self._named(slow) if slow else self._unreachable()

    async def version(self) -> int:
        """``posthouse_state.version``, 0 where there is no such row."""
        rows = await self.query("SELECT version FROM posthouse_state")
        return int(rows[0][0]) if rows else 0

    # Changing

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """One writing statement as a transaction of its own, see there; how many rows it found to change."""
        return await self._transaction(lambda transaction: transaction.change(sql, parameters))

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Commit what ``work`` does, or nothing of it when it raises.

        ``work`` runs again after a deadlock, and on the next server where one failed before COMMIT was sent. Where
        the answer to COMMIT is lost, ``TryLater`` says that the change may have been made. Where all servers that
        are up only read, one of them does for work that changes nothing.
        """
        return await self._transaction(work)

    async def _transaction(self, work: "Callable[[ServerTransaction], Awaitable[T]]") -> T:
        deadline = asyncio.get_running_loop().time() + CHANGE_SECONDS
        for tries in range(_TRIES):
            server = self._first("up", "new") or self._first("read-only")
            if server is None:
                raise self._unreachable()
            # The server's own setting doesn't keep a user from writing who may do everything.
            read_only = server.state == "read-only"
            try:
                return await self._attempt(server, work, read_only=read_only)
            except Failure as failure:
                if read_only and isinstance(failure, ReadOnly):
                    raise self._unreachable(" for changes") from failure
                if tries == _TRIES - 1 or asyncio.get_running_loop().time() > deadline:
                    raise self._named(failure) from failure
                await self._prepare_another_try(server, failure, tries)
        raise AssertionError

    def _first(self, *states: State) -> Server | None:
        return next((server for server in self._servers if server.state in states), None)

    async def _prepare_another_try(self, server: Server, failure: Failure, tries: int) -> None:
        """Note what a failure says about the server; a pause where that helps. Raises where nothing would."""
        match failure:
            case ReadOnly():
                server.set_state("read-only", failure.reason)
            case Unusable():
                server.set_state("down", failure.reason)
            case Lost():
                if not server.is_down():
                    await server.doubt()
            case Again() | Full():
                await asyncio.sleep(random.uniform(0.005, 0.02) * 2**tries)  # noqa: S311
            case _:
                raise self._named(failure) from failure

    async def _attempt(
        self, server: Server, work: "Callable[[ServerTransaction], Awaitable[T]]", *, read_only: bool
    ) -> T:
        connection = await server.acquire()
        transaction = ServerTransaction(self.dialect, server, connection)
        is_sound = False
        try:
            await transaction.begin(read_only=read_only)
            try:
                result = await work(transaction)
                transaction.raise_failure()
            except Exception:
                is_sound = await transaction.rollback()
                transaction.raise_failure()
                raise
            try:
                await transaction.commit()
            except Lost as failure:
                raise _Unknown(f"{failure.reason}; whether the change was made is not known") from failure
            is_sound = True
        finally:
            server.release(connection, is_sound=is_sound)
        return result

    # The servers

    async def _connect(self, host: str, port: int, unix: str) -> Connection:
        if self._secrets is None:
            raise Lost("not opened yet")
        password, tls = self._secrets
        login = Login(host, port, unix, self._user, password, self._database, tls)
        # Not at the top: only who uses such a database loads its driver.
        if self.dialect == "mysql":
            from posthouse.directory.mysql import MySqlConnection

            return await MySqlConnection.connect(login)
        from posthouse.directory.postgresql import PostgreSqlConnection

        return await PostgreSqlConnection.connect(login)

    def _read_secrets(self) -> tuple[str, ssl.SSLContext | None]:
        settings, password = self._settings.database, unquote(self._url.password or "")
        if settings.password_file:
            with open(self._settings.path(settings.password_file), encoding="utf-8") as file:
                password = file.read().rstrip("\r\n")
        tls = ssl.create_default_context(cafile=self._settings.path(settings.ca)) if settings.ca else None
        return password, tls

    def _look_at_others(self) -> None:
        """One server is in doubt: find out which of the others serve, before somebody waits for them in turn."""
        for server in self._servers:
            if server.state != "down":
                server.check()

    def _changed(self) -> None:
        if all(server.is_down() for server in self._servers):
            log.error("database-unreachable", database=self.name)
        self._trouble.set()

    async def _watch(self) -> None:
        while True:
            await self._trouble.wait()
            await asyncio.sleep(LOOK_SECONDS)
            troubled = [server for server in self._servers if server.state in ("down", "read-only")]
            if not troubled:
                self._trouble.clear()
            await asyncio.gather(*(server.check() for server in troubled), return_exceptions=True)

    def _unreachable(self, what: str = "") -> TryLater:
        reasons = "; ".join(f"{server.address}: {server.reason or server.state}" for server in self._servers)
        return TryLater(f"{self._url.scheme} {self._database}: no server{what} ({reasons})")

    def _named(self, failure: Failure) -> TryLater:
        return TryLater(f"database {self.name}: {failure.reason}")


class _Unknown(Failure):
    """COMMIT was sent, and its answer never came."""


class ServerTransaction:
    """A ``Transaction`` on one connection."""

    def __init__(self, dialect: Literal["mysql", "postgresql"], server: Server, connection: Connection) -> None:
        self.dialect: Literal["mysql", "postgresql"] = dialect
        self._server = server
        self._connection = connection
        self._failure: Failure | None = None

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return (await self._do(self._connection.change(sql, parameters)))[0]
        except Inexpressible:
            return []

    async def execute(
        self, statement: "Executable", rows: Sequence[dict[str, Any]] | None = None
    ) -> Sequence[Sequence[Any]]:
        from sqlalchemy.exc import IntegrityError

        from posthouse.directory.statements import text_of

        if rows is not None and not rows:
            return []
        sql, parameters = text_of(statement, self.dialect, rows)
        try:
            if len(parameters) > 1:
                for start in range(0, len(parameters), _ROWS_AT_ONCE):
                    rows_now = parameters[start : start + _ROWS_AT_ONCE]
                    await self._do(self._connection.change_many(sql, rows_now))
                return []
            return (await self._do(self._connection.change(sql, parameters[0])))[0]
        except Violated as failure:
            raise IntegrityError(sql, None, failure) from failure

    async def change(self, sql: str, parameters: Sequence[object]) -> int:
        return (await self._do(self._connection.change(sql, parameters)))[1]

    async def begin(self, *, read_only: bool) -> None:
        await self._do(self._connection.begin(read_only=read_only))

    async def commit(self) -> None:
        await self._do(self._connection.commit())

    async def rollback(self) -> bool:
        """Whether the connection is as good as new afterwards."""
        if not self._connection.is_usable or isinstance(self._failure, Lost | Unusable):
            return False
        try:
            await self._server.patiently(self._connection, self._connection.rollback())
        except Failure:
            return False
        return True

    def raise_failure(self) -> None:
        """After some failures nothing of this transaction can stand, even where ``work`` didn't mind."""
        if self._failure is not None:
            raise self._failure

    async def _do(self, work: Awaitable[T]) -> T:
        try:
            return await self._server.patiently(self._connection, work)
        except (Lost, Unusable, ReadOnly, Again) as failure:
            self._failure = failure
            raise


def _place(text: str) -> tuple[str, int, str]:
    """Host, port (0: the usual one) and socket of ``host``, ``host:port``, ``[v6]:port`` or ``unix:/path``."""
    if text.startswith("unix:"):
        return "", 0, text.removeprefix("unix:")
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or 0, ""


def _written(place: tuple[str, int, str]) -> str:
    host, port, unix = place
    if unix:
        return f"unix:{unix}"
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if port else name


def _without_password(url: str) -> str:
    head, at, rest = url.rpartition("@")
    return f"{head.rpartition(':')[0]}:…@{rest}" if at and head.count(":") > 1 else url
