"""One connection to MariaDB or MySQL, by asyncmy.

Invariants:
  1. The session is the one we set up, whatever the server's defaults: utf8mb4, strict, backslashes escape, no
     several statements in one. asyncmy writes parameters into the text, and that is safe only so.
  2. Text that isn't UTF-8 is read with replacement characters; it never fails a query.
  3. No statement waits for a lock longer than ``LOCK_SECONDS``, be it a row's or a whole table's.
  4. What the driver raises becomes a ``Failure``. After one the connection may be used on only if ``is_usable``.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from asyncmy import errors
from asyncmy.connection import Connection
from asyncmy.constants import CLIENT, FIELD_TYPE
from asyncmy.converters import conversions

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

_SESSION = (
    "SET character_set_client = utf8mb4, character_set_connection = utf8mb4, character_set_results = utf8mb4, "
    "sql_mode = 'STRICT_ALL_TABLES', autocommit = 1, innodb_lock_wait_timeout = {0}, lock_wait_timeout = {0}"
)


def _tolerant(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


_TEXT = ("VARCHAR", "VAR_STRING", "STRING", "BLOB", "TINY_BLOB", "MEDIUM_BLOB", "LONG_BLOB", "ENUM", "SET", "JSON")
_CONVERSIONS: dict[Any, Any] = (
    dict(conversions)
    | {getattr(FIELD_TYPE, name): _tolerant for name in _TEXT}
    | {kind: lambda octets: Decimal(octets.decode()) for kind in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL)}
)

# https://mariadb.com/kb/en/mariadb-error-code-reference/
_FAILURES: dict[int, type[Failure]] = {
    1020: Again,  # the record has changed since it was read
    1040: Full,
    1044: Denied,  # this user, to this database
    1045: Denied,  # access denied
    1047: Unusable,  # Galera: the node is not in the primary component, or not synced
    1049: Denied,  # unknown database
    1053: Lost,  # shutting down
    1129: Unusable,  # host blocked after errors
    1130: Unusable,  # host not allowed
    1152: Lost,
    1158: Lost,
    1159: Lost,
    1160: Lost,
    1161: Lost,
    1203: Full,
    1205: Again,  # lock wait timeout
    1213: Again,  # deadlock; Galera: certification failed
    1226: Full,  # the user's limit of connections
    1290: ReadOnly,
    1406: TooLong,
    1698: Denied,  # access denied, without a word about passwords
    1792: ReadOnly,
    1836: ReadOnly,
    1927: Lost,  # killed
}
# A character that the column's character set doesn't have, invalid text.
_INEXPRESSIBLE = {1267, 1270, 1271, 1300, 1366}


class _NoPasswordInClear:
    """Stands for the plug-ins by which a server gets the password as it is: not without TLS."""

    def __init__(self, connection: object) -> None:
        del connection

    def authenticate(self, packet: object) -> None:
        del packet
        raise errors.OperationalError(2059, "the server wants the password in clear, which needs TLS (database.ca)")


class MySqlConnection:
    """A connection in autocommit mode."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @classmethod
    async def connect(cls, login: Login) -> "MySqlConnection":
        """Log in and set the session up. Raises ``Failure``; the caller limits the time."""
        secure = login.tls if not login.unix else None
        in_clear = () if secure or login.unix else ("mysql_clear_password", "dialog")
        parameters: dict[str, Any] = dict(  # noqa: C408 - keyword arguments, which the driver's stubs have partly wrong
            host=login.host or "localhost",
            port=login.port or 3306,
            unix_socket=login.unix or None,
            user=login.user,
            password=login.password.encode(),
            database=login.database,
            charset="utf8mb4",
            use_unicode=False,
            conv=_CONVERSIONS,
            # How many rows an UPDATE found, as with other databases, rather than how many it made different.
            client_flag=CLIENT.FOUND_ROWS,
            autocommit=None,
            ssl=secure,
            auth_plugin_map=dict.fromkeys(in_clear, _NoPasswordInClear),
            program_name="posthouse",
        )
        driver: Any = Connection(**parameters)
        driver._client_flag &= ~CLIENT.MULTI_STATEMENTS
        try:
            await driver.connect()
            await driver.query(_SESSION.format(LOCK_SECONDS))
        except Exception as error:
            driver.close()
            raise blamed(_failure(error, connecting=True), ()) from error
        except BaseException:
            driver.close()
            raise
        return cls(driver)

    @property
    def is_usable(self) -> bool:
        """Whether the connection is open as far as we know."""
        return self._driver.connected and not self._driver._stream_broken

    @property
    def is_cancelling(self) -> bool:
        """Never: KILL on another connection might meet another server behind the same address."""
        return False

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        return (await self.change(sql, parameters))[0]

    async def change(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[tuple[Any, ...]], int]:
        """The rows that a statement returns, and how many it changed."""
        cursor = self._driver.cursor()
        try:
            for parameter in parameters:
                if isinstance(parameter, str):
                    parameter.encode()  # the driver would send half a surrogate pair as an octet
            count = await cursor.execute(sql, tuple(parameters))
            rows = list(await cursor.fetchall()) if cursor.description else []
        except UnicodeEncodeError as error:
            raise Inexpressible(str(error)) from error
        except Exception as error:
            raise blamed(self._failed(error), parameters) from error
        return rows, count

    async def change_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """The same statement for each row of parameters."""
        try:
            for row in rows:
                for parameter in row:
                    if isinstance(parameter, str):
                        parameter.encode()
            await self._driver.cursor().executemany(sql, [tuple(row) for row in rows])
        except UnicodeEncodeError as error:
            raise Inexpressible(str(error)) from error
        except Exception as error:
            raise self._failed(error) from error

    async def begin(self, *, read_only: bool = False) -> None:
        await self.change("START TRANSACTION READ ONLY" if read_only else "START TRANSACTION")

    async def commit(self) -> None:
        await self.change("COMMIT")

    async def rollback(self) -> None:
        await self.change("ROLLBACK")

    async def read_only(self) -> str:
        """Why the server changes nothing, or an empty string; a failure where it answers nothing at all."""
        ((is_read_only,),) = await self.query("SELECT @@global.read_only")
        try:
            # Only a statement that reads a table shows whether a Galera node is in the primary component.
            await self.query("SELECT version FROM posthouse_state")
        except Wrong:
            pass  # the table is for others to miss
        return "" if str(is_read_only) in ("0", "OFF") else "read_only is on"

    async def close(self) -> None:
        await self._driver.ensure_closed()

    def abort(self) -> None:
        """Close it at once; an unread answer goes with it."""
        self._driver.close()

    def _failed(self, error: Exception) -> Exception:
        failure = _failure(error)
        if isinstance(failure, Lost | Unusable):
            self.abort()
        return failure


def _failure(error: Exception, *, connecting: bool = False) -> Exception:
    """What a driver's error means."""
    if isinstance(error, OSError):
        return Lost(str(error) or type(error).__name__)
    if not isinstance(error, errors.MySQLError):
        return Lost(f"{type(error).__name__}: {error}")
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    reason = f"{error.args[-1] if error.args else error} ({number})"
    if number in _INEXPRESSIBLE:
        return Inexpressible(reason)
    if isinstance(error, errors.IntegrityError):
        return Violated(reason)
    if number < 1000 or (number >= 2000 and number < 3000):
        return Lost(reason)
    if number == 1290 and "read" not in reason.lower():
        return Wrong(reason)  # another option forbids it
    return _FAILURES.get(number, Unusable if connecting else Wrong)(reason)
