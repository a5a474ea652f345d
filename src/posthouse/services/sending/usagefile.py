"""The file in which all processes of a host count what is sent: by name, a login's or a domain's, and whom each login
has written to.

Invariants:
  1. To look whether there is room and to take it is one transaction: together all processes never go beyond a limit.
  2. The file is bounded: what is over goes, then what is oldest.
  3. Whom somebody has written to can't be read from it: it has hashes.
"""

# ruff: noqa: S608 - what is put into statements are names of ours and question marks.

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from hashlib import blake2b

from posthouse.message.address import lookup_key
from posthouse.services.sending.limits import (
    HELD_FACTOR,
    KINDS,
    NOTHING,
    SPANS,
    Amount,
    Bound,
    Excess,
    Usage,
    Window,
    added,
    current,
    excess,
)

SENDING_FILE = "sending.db"
MAX_NAMES = 1_000_000
MAX_KNOWN = 2_000_000
"""Pairs of a login and whom it has written to."""
KEEP_KNOWN_SECONDS = 400 * 86_400.0
TELL_SECONDS = 86_400.0
TIDY_SHARE = 1_000
"""One change of so many clears up."""
_FEW = 500

_COLUMNS = ", ".join(f"{span}_{column}" for span in SPANS for column in ("since", *KINDS))
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS used (name TEXT PRIMARY KEY, {_COLUMNS}, last REAL, told REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (key BLOB PRIMARY KEY, last REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS known_last ON known (last);
"""
_SAVE = f"""
INSERT INTO used (name, {_COLUMNS}, last, told) VALUES (?, {", ".join("?" * 10)}, ?, 0)
ON CONFLICT (name) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", "))},
last = excluded.last
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking room for a message: counted as ``amount`` unless it is ``refused``; or ``held``.

    ``new`` are keys of those who are written to for the first time. ``is_news``: nobody has been told of it today.
    """

    amount: Amount = NOTHING
    refused: Excess | None = None
    held: Excess | None = None
    new: tuple[bytes, ...] = ()
    is_news: bool = False


def usage(file: sqlite3.Connection, name: str, now: float) -> Usage:
    """What a name has sent, in the hour and the day of now."""
    rows = file.execute(f"SELECT {_COLUMNS} FROM used WHERE name = ?", (name,)).fetchall()
    return current(_usage(rows[0]), now) if rows else Usage()


def all_usage(file: sqlite3.Connection, now: float) -> list[tuple[str, Usage]]:
    """Everybody who has sent something in the hour or the day of now, by name."""
    rows = file.execute(f"SELECT name, {_COLUMNS} FROM used ORDER BY name").fetchall()
    found = [(row[0], current(_usage(row[1:]), now)) for row in rows]
    return [(name, used) for name, used in found if used != Usage()]


def forget(file: sqlite3.Connection, name: str) -> bool:
    """Begin anew for one name; whether there was anything."""
    return file.execute("DELETE FROM used WHERE name = ?", (name,)).rowcount > 0


def is_new(file: sqlite3.Connection, key: bytes) -> bool:
    return file.execute("SELECT 1 FROM known WHERE key = ?", (key,)).fetchone() is None


def take(
    file: sqlite3.Connection, bounds: Sequence[Bound], amount: Amount, keys: Iterable[bytes], now: float
) -> Taken:
    """Count a message, unless it is refused; ``keys`` stand for its recipients."""
    unique = tuple(dict.fromkeys(keys))
    new = _new(file, unique)
    amount = Amount(amount.messages, amount.recipients, amount.bytes, len(new))
    used = {bound.name: usage(file, bound.name, now) for bound in bounds}
    over = [found for bound in bounds if (found := excess(bound, used[bound.name], amount, now))]
    refused = [found for one in over if (found := _refused(one, used[one.bound.name], amount, now))]
    first = next(iter((*refused, *over)), None)
    is_news = first is not None and tell(file, first.bound.name, now)
    if refused:
        return Taken(refused=refused[0], is_news=is_news)
    for bound in bounds:
        save(file, bound.name, added(used[bound.name], amount, now), now)
    file.executemany("REPLACE INTO known VALUES (?, ?)", [(key, now) for key in unique])
    return Taken(amount, None, first, new, is_news)


def _refused(one: Excess, used: Usage, amount: Amount, now: float) -> Excess | None:
    return excess(one.bound, used, amount, now, factor=HELD_FACTOR) if one.bound.holds else one


def give_back(file: sqlite3.Connection, bounds: Sequence[Bound], taken: Taken, now: float) -> None:
    """The message was not taken in after all."""
    for bound in bounds:
        save(file, bound.name, added(usage(file, bound.name, now), taken.amount, now, sign=-1), now)
    file.executemany("DELETE FROM known WHERE key = ?", [(key,) for key in taken.new])


def tell(file: sqlite3.Connection, name: str, now: float) -> bool:
    """Whether somebody is to be told of this name now: once a day."""
    rows = file.execute("SELECT told FROM used WHERE name = ?", (name,)).fetchall()
    if rows and rows[0][0] <= now < rows[0][0] + TELL_SECONDS:
        return False
    if not rows:
        save(file, name, Usage(), now)
    file.execute("UPDATE used SET told = ? WHERE name = ?", (now, name))
    return True


def untell(file: sqlite3.Connection, name: str) -> None:
    """That could not be done."""
    file.execute("UPDATE used SET told = 0 WHERE name = ?", (name,))


def save(file: sqlite3.Connection, name: str, used: Usage, now: float) -> None:
    file.execute(_SAVE, (name, *_values(used.hour), *_values(used.day), now))


def tidy(file: sqlite3.Connection, now: float) -> None:
    """Clear up."""
    file.execute("DELETE FROM used WHERE last < ? AND told < ?", (now - SPANS["day"], now - TELL_SECONDS))
    file.execute("DELETE FROM known WHERE last < ?", (now - KEEP_KNOWN_SECONDS,))
    for table, key, most in (("used", "name", MAX_NAMES), ("known", "key", MAX_KNOWN)):
        rows = file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        if rows > most:
            oldest = f"SELECT {key} FROM {table} ORDER BY last LIMIT ?"
            file.execute(f"DELETE FROM {table} WHERE {key} IN ({oldest})", (rows - most * 9 // 10,))


def key(login: str, recipient: str) -> bytes:
    """What stands for a login and somebody it writes to."""
    text = f"{lookup_key(login)}\0{lookup_key(recipient)}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _new(file: sqlite3.Connection, keys: Sequence[bytes]) -> tuple[bytes, ...]:
    known: set[bytes] = set()
    for start in range(0, len(keys), _FEW):
        few = keys[start : start + _FEW]
        rows = file.execute(f"SELECT key FROM known WHERE key IN ({', '.join('?' * len(few))})", few)
        known.update(row[0] for row in rows.fetchall())
    return tuple(one for one in keys if one not in known)


def _usage(row: Sequence[float]) -> Usage:
    width = len(KINDS) + 1
    windows = (row[start : start + width] for start in range(0, len(row), width))
    return Usage(*(Window(window[0], Amount(*map(int, window[1:]))) for window in windows))


def _values(window: Window) -> tuple[float, ...]:
    return (window.since, *astuple(window.used))
