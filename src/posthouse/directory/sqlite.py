"""The directory's database in one SQLite file.

Invariants:
  1. Look-ups run on one connection, at once and without suspending; what waits for other writers runs in threads.
  2. What the database can't answer is ``TryLater``.
  3. An object serves one event loop.
"""

import asyncio
import os
import pwd
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.directory import version
from posthouse.directory.database import Row, Transaction

if TYPE_CHECKING:
    import sqlalchemy
    from sqlalchemy import Executable

T = TypeVar("T")
SCHEME = "sqlite:"
_BUSY_SECONDS = 5.0


class SqliteDatabase:
    """A file, made where there is none."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, settings: Settings) -> None:
        self.path = settings.path(settings.database.url.removeprefix(SCHEME))
        self._user = settings.user
        self._classic = version.classic(settings.database)
        self._connection: sqlite3.Connection | None = None
        self._engine: sqlalchemy.Engine | None = None
        self.writing = asyncio.Lock()
        """Who writes has it: those who wait for the file's own lock would take the threads that its holder needs."""

    @property
    def name(self) -> str:
        return f"database {self.path}"

    async def open(self, *, may_be_away: bool = False, as_it_is: bool = False) -> None:  # noqa: ARG002
        """Open the file; it is made, with its directory, where there is none, and its schema brought up to date.

        ``as_it_is``: neither of that. Raises ``TryLater``, also where the database ``may_be_away``: a file is there.
        """
        if as_it_is and not os.path.exists(self.path):  # noqa: ASYNC240 - nothing else runs yet
            raise self._trouble("there is no such file")
        try:
            if not as_it_is:
                self.make_file()
                version.prepare_file(self.path, self._classic)
            connection = self._connect()
        except (OSError, KeyError, sqlite3.Error) as error:
            raise self._trouble(error) from error
        self._connection = connection

    async def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
        if self._engine:
            self._engine.dispose()
            self._engine = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of look-ups. Raises ``TryLater`` where it is not open."""
        if self._connection is None:
            raise self._trouble("it is not open")
        return self._connection

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        try:
            return self.connection.execute(sql, parameters).fetchall()  # type: ignore[arg-type]
        except UnicodeEncodeError:
            return []  # half a surrogate pair is in no row
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        async with self.writing:
            return await _in_thread(self._run, sql, parameters)

    async def version(self) -> int:
        """Another one after any change by another connection, by whatever program."""
        ((version,),) = await self.query("PRAGMA data_version")
        return version

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """On a connection of its own. It waits for other writers once it writes, not while it only reads."""
        self.connection  # noqa: B018 - raises where the database is not open
        try:
            transaction = await _in_thread(self._begin)
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        try:
            result = await work(transaction)
            await transaction.end("COMMIT")
        except BaseException:
            await transaction.end("ROLLBACK")
            raise
        finally:
            try:
                await _in_thread(transaction.connection.close)
            finally:
                transaction.let_others_write()
        return result

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        # Text of unknown origin need not be UTF-8, and one such row must not hide the others.
        connection.text_factory = _tolerant
        return connection

    def _run(self, sql: str, parameters: Sequence[object]) -> int:
        # Not on the connection of look-ups: whatever writes at the moment would stop them all.
        connection = None
        try:
            connection = self._connect()
            return connection.execute(sql, parameters).rowcount  # type: ignore[arg-type]
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise self._trouble(error) from error
        finally:
            if connection is not None:
                connection.close()

    def _begin(self) -> "_SqliteTransaction":
        # Only what changes tables needs SQLAlchemy, and mail workers don't.
        import sqlalchemy

        if self._engine is None:
            self._engine = sqlalchemy.create_engine(
                "sqlite://", creator=self._connect, poolclass=sqlalchemy.pool.NullPool
            )
        return _SqliteTransaction(self, self._engine.connect())

    def _trouble(self, error: Exception | str) -> TryLater:
        return TryLater(f"{self.name}: {error}")

    def make_file(self) -> None:
        """An empty file for the user who serves; SQLite gives its other files the same owner."""
        if os.path.exists(self.path):
            return
        owner = pwd.getpwnam(self._user) if self._user and os.geteuid() == 0 else None
        parent = os.path.dirname(self.path)
        if not os.path.isdir(parent):
            os.makedirs(parent, mode=0o700)
            if owner:
                os.chown(parent, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        # Exclusively: through a link that leads nowhere yet, root would make that user a file anywhere.
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if os.path.islink(self.path):
                raise
            return  # another process was quicker
        if owner:
            os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        os.close(descriptor)


class _SqliteTransaction:
    """One transaction; it begins with its first statement."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, database: SqliteDatabase, connection: "sqlalchemy.Connection") -> None:
        self._database = database
        self.connection = connection
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        self._raw = raw
        self._is_writing = False

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        return await self._call(self._query, sql, parameters)

    async def execute(self, statement: "Executable", rows: Sequence[dict[str, Any]] | None = None) -> Sequence[Row]:
        if not statement.is_select and not self._is_writing:
            await self._database.writing.acquire()
            self._is_writing = True
        return await self._call(self._execute, statement, rows)

    def let_others_write(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._database.writing.release()

    async def end(self, word: Literal["COMMIT", "ROLLBACK"]) -> None:
        if self._raw.in_transaction:
            await self._call(self._raw.execute, word)

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        from sqlalchemy.exc import DBAPIError, IntegrityError

        try:
            return await _in_thread(function, *arguments)
        except IntegrityError:
            raise
        except (sqlite3.Error, UnicodeEncodeError, DBAPIError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise self._database._trouble(f"{reason}") from error

    def _query(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        self._begin(is_writing=False)
        return self._raw.execute(sql, parameters).fetchall()  # type: ignore[arg-type]

    def _execute(self, statement: "Executable", rows: Sequence[dict[str, Any]] | None) -> Sequence[Row]:
        self._begin(is_writing=not statement.is_select)
        result = self.connection.execute(statement, rows) if rows is not None else self.connection.execute(statement)
        return [tuple(row) for row in result] if result.returns_rows else ()

    def _begin(self, *, is_writing: bool) -> None:
        if not self._raw.in_transaction:
            self._raw.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run it in a thread; it has ended when this returns, also when this is cancelled."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def _tolerant(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")
