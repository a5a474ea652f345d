"""What the directory needs of a database: SQLite in this process, or MariaDB, MySQL or PostgreSQL over the network.

Look-ups are SQL text, made once and run as it is; changes are SQLAlchemy Core statements within one transaction.

Invariants:
  1. What a database can't answer is ``TryLater``, whatever the driver raised.
  2. A transaction's work may run more than once (deadlocks, a server that went away): what it does outside of the
     database must bear that.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Executable

Dialect = Literal["sqlite", "mysql", "postgresql"]
Row = Sequence[Any]
T = TypeVar("T")

PLACEHOLDERS: dict[Dialect, Callable[[int], str]] = {
    "sqlite": lambda number: f"?{number}",
    "mysql": lambda _: "%s",
    "postgresql": lambda number: f"${number}",
}
"""How the parameter of that number, counted from 1, is written in SQL text. MySQL's have no number: give a value
again for each place where it stands, and write a per cent sign twice."""


class Queries(Protocol):
    """Whatever runs SQL text: a database, or one transaction on it."""

    @property
    def dialect(self) -> Dialect: ...

    async def query(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows of a SELECT; none where a parameter is text that the database can't hold. Raises ``TryLater``."""
        ...


class Transaction(Queries, Protocol):
    """One transaction: its ``query`` sees what its ``execute`` has done."""

    async def execute(self, statement: "Executable", rows: Sequence[dict[str, Any]] | None = None) -> Sequence[Row]:
        """Run a Core statement, with ``rows`` once for each of them; the rows it returns, if it does.

        Raises ``TryLater``, and what SQLAlchemy raises for a violated constraint (``IntegrityError``).
        """
        ...


class Database(Queries, Protocol):
    """One database."""

    @property
    def name(self) -> str:
        """What to call it in messages: without passwords."""
        ...

    async def open(self, *, may_be_away: bool = False) -> None:
        """Make it usable, now or, where it ``may_be_away``, once it answers. Raises ``TryLater``."""
        ...

    async def close(self) -> None: ...

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """One writing statement, committed when this returns; how many rows it found. Raises ``TryLater``."""
        ...

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Commit what ``work`` does, or nothing of it when it raises. Raises ``TryLater``."""
        ...

    async def version(self) -> int:
        """A number that is another one after a change that we may not know of; cheap enough to ask often."""
        ...
