"""SQLAlchemy Core statements as SQL text and parameters for a driver."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sqlalchemy import Dialect, Executable


def text_of(
    statement: "Executable", dialect: Literal["mysql", "postgresql"], rows: Sequence[dict[str, Any]] | None = None
) -> tuple[str, list[Sequence[Any]]]:
    """The text, and the parameters for each of ``rows``, or once where there are none."""
    # for_executemany: otherwise PostgreSQL's INSERT returns a key that nobody asked for.
    compiled: Any = statement.compile(  # type: ignore[attr-defined]
        dialect=_dialect(dialect), column_keys=list(rows[0]) if rows else None, for_executemany=True
    )
    first = compiled.construct_expanded_state(rows[0] if rows else None)
    if not rows:
        return first.statement, [first.positional_parameters]
    others = first.parameters
    return first.statement, [
        [row[name] if name in row else others[name] for name in first.positiontup] for row in rows
    ]


@cache
def _dialect(name: Literal["mysql", "postgresql"]) -> "Dialect":
    if name == "postgresql":
        from sqlalchemy.dialects.postgresql import asyncpg

        postgresql: Any = asyncpg.dialect(paramstyle="numeric_dollar")
        postgresql._backslash_escapes = False
        return postgresql
    from sqlalchemy.dialects.mysql import asyncmy, reserved_words

    mysql: Any = asyncmy.dialect(paramstyle="format")
    # One text for both: quoted is what either of them reserves.
    mysql.identifier_preparer.reserved_words = (
        reserved_words.RESERVED_WORDS_MYSQL | reserved_words.RESERVED_WORDS_MARIADB
    )
    return mysql
