"""One connection to PostgreSQL, by asyncpg.

Invariants:
  1. Parameters never become part of the text.
  2. Text that isn't UTF-8 is read with replacement characters; it never fails a query.
  3. What the driver raises becomes a ``Failure``. After one the connection may be used on only if ``is_usable``.
  4. No statement waits for a lock longer than ``LOCK_SECONDS``. One that its caller gives up is cancelled by the
     driver, which needs the connection to be closed in peace.
"""

import os.path
from collections.abc import Sequence
from typing import Any

import asyncpg

from posthouse.directory.failures import (
    Again,
    Denied,
    Failure,
    Full,
    Inexpressible,
    Lost,
    ReadOnly,
    TooLong,
    Unusable,
    Violated,
    Wrong,
    blamed,
)
from posthouse.directory.pool import LOCK_SECONDS, Login

# By class or by whole code. https://www.postgresql.org/docs/15/errcodes-appendix.html
_FAILURES: dict[str, type[Failure]] = {
    "08": Lost,
    "22001": TooLong,
    "23": Violated,
    "25006": ReadOnly,
    "28": Denied,  # logging in
    "3D000": Denied,  # unknown database
    "40": Again,
    "40003": Lost,  # whether the statement was completed is not known
    "53300": Full,
    "55P03": Again,  # waited for a lock too long
    "57P01": Lost,
    "57P02": Lost,
    "57P03": Unusable,  # starting up, or shutting down
    "57P04": Unusable,
    "57P05": Lost,
}
# No such octets in the encoding, no such character in the server's.
_INEXPRESSIBLE = {"22021", "22P05"}


class PostgreSqlConnection:
    """A connection, each statement for itself unless ``begin`` was called."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._in_transaction = False
        self._is_asking = False

    @classmethod
    async def connect(cls, login: Login) -> "PostgreSqlConnection":
        """Log in. Raises ``Failure``; the caller limits the time."""
        host, port = _place(login)
        try:
            driver = await asyncpg.connect(
                host=host,
                port=port,
                user=login.user,
                password=login.password,
                passfile="/dev/null",
                database=login.database,
                ssl=login.tls if login.tls is not None and not login.unix else False,
                server_settings={"application_name": "posthouse"},
            )
        except Exception as error:
            raise blamed(_failure(error, connecting=True), ()) from error
        connection = cls(driver)
        try:
            # Not among the server_settings: pgbouncer lets nobody in who begins with one that it doesn't know.
            await driver.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            await connection._read_octets()
        except Exception as error:
            driver.terminate()
            raise blamed(_failure(error, connecting=True), ()) from error
        except BaseException:
            driver.terminate()
            raise
        return connection

    async def _read_octets(self) -> None:
        # In such a database text is whatever was put in; all others are checked by the server.
        if self._driver.get_settings().server_encoding == "SQL_ASCII":
            await self._driver.execute("SET client_encoding = 'SQL_ASCII'")
            for kind in ("text", "varchar", "bpchar"):
                await self._driver.set_type_codec(
                    kind, schema="pg_catalog", encoder=str.encode, decoder=_tolerant, format="binary"
                )

    @property
    def is_usable(self) -> bool:
        """Whether the connection is open as far as we know."""
        return not self._driver.is_closed()

    @property
    def is_cancelling(self) -> bool:
        """Whether a look-up was given up before its end."""
        return self._is_asking and self.is_usable

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        self._is_asking = True
        try:
            rows = [tuple(row) for row in await self._driver.fetch(sql, *parameters)]
        except Exception as error:
            self._is_asking = False
            raise blamed(self._failed(error), parameters) from error
        self._is_asking = False
        return rows

    async def change(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[tuple[Any, ...]], int]:
        """The rows that a statement returns, and how many it changed."""
        try:
            await self._save()
            statement = await self._driver.prepare(sql)
            rows = [tuple(row) for row in await statement.fetch(*parameters)]
            count = statement.get_statusmsg().rpartition(" ")[2]
        except Exception as error:
            raise blamed(await self._undone(error), parameters) from error
        return rows, int(count) if count.isdigit() else 0

    async def change_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """The same statement for each row of parameters."""
        try:
            await self._save()
            await self._driver.executemany(sql, rows)
        except Exception as error:
            raise await self._undone(error) from error

    async def begin(self, *, read_only: bool = False) -> None:
        await self._say(f"BEGIN{' READ ONLY' if read_only else ''}; SAVEPOINT statement")
        self._in_transaction = True

    async def commit(self) -> None:
        self._in_transaction = False
        if await self._say("COMMIT") != "COMMIT":
            raise Wrong("the transaction had failed before")  # to which the answer is ROLLBACK, and no error

    async def rollback(self) -> None:
        self._in_transaction = False
        await self._say("ROLLBACK")

    async def read_only(self) -> str:
        """Why the server changes nothing, or an empty string; a failure where it answers nothing at all."""
        ((is_read_only,),) = await self.query("SELECT current_setting('transaction_read_only')")
        return "transactions are read-only" if is_read_only == "on" else ""

    async def close(self) -> None:
        await self._driver.close(timeout=1.0)

    def abort(self) -> None:
        """Close it at once; an unread answer goes with it."""
        self._driver.terminate()

    async def _save(self) -> None:
        # Elsewhere a statement that fails leaves the transaction as it was; here it would end it.
        if self._in_transaction:
            await self._driver.execute("RELEASE SAVEPOINT statement; SAVEPOINT statement")

    async def _undone(self, error: Exception) -> Exception:
        failure = self._failed(error)
        if self._in_transaction and self.is_usable and not isinstance(failure, Again):
            await self._say("ROLLBACK TO SAVEPOINT statement")
        return failure

    async def _say(self, sql: str) -> str:
        try:
            return await self._driver.execute(sql)
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Exception:
        failure = _failure(error)
        if isinstance(failure, Lost | Unusable):
            self.abort()
        return failure


def _place(login: Login) -> tuple[str, int]:
    """Host and port as asyncpg wants them: for a Unix socket its directory, and the number its name ends with."""
    if not login.unix:
        return login.host or "localhost", login.port or 5432
    directory, name = os.path.split(login.unix)
    if name.startswith(".s.PGSQL."):
        return directory, int(name.removeprefix(".s.PGSQL."))
    return login.unix, 5432


def _tolerant(octets: bytes) -> str:
    return bytes(octets).decode("utf-8", "replace")


def _failure(error: Exception, *, connecting: bool = False) -> Exception:
    """What a driver's error means."""
    if isinstance(error, UnicodeEncodeError) or isinstance(error.__cause__, UnicodeEncodeError):
        return Inexpressible(str(error))
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Wrong(str(error))  # a parameter of another type than the column
    if not isinstance(error, asyncpg.PostgresError):
        return Lost(str(error) or type(error).__name__)
    state = str(getattr(error, "sqlstate", ""))
    reason = f"{error} ({state})"
    if state in _INEXPRESSIBLE:
        return Inexpressible(reason)
    known = _FAILURES.get(state) or _FAILURES.get(state[:2]) or (Unusable if connecting else Wrong)
    return known(reason)
