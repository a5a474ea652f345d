"""What the index knows of messages: their rows, and what was once worked out of their files.

Header fields that clients ask for together (``HEADER.FIELDS``) are kept as one block for each set of names: a
client that opens a mailbox asks for the same set of every message. An account has room for ``FIELD_SETS``; a new
one takes the place of the oldest.

Invariant: it is only a cache. Nothing is wrong where something is missing; it is worked out again.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.store.model import Want

FIELD_SETS = 6
WORTH_A_SET = 10  # messages in one batch; odd questions about few messages push nothing out
CHUNK_ROWS = 100
CHUNKS_OCTETS = 1024 * 1024

IN_INDEX = Want.DATE | Want.SIZE | Want.MODSEQ | Want.SAVED
_CACHED = {
    "envelope": Want.ENVELOPE,
    "structure": Want.STRUCTURE,
    "parts": Want.STRUCTURE | Want.BODY | Want.PREVIEW,
    "email_id": Want.EMAILID,
    "preview": Want.PREVIEW,
}
_BLOCKS = {Want.ENVELOPE: "c.envelope", Want.STRUCTURE: "c.structure", Want.FIELDS: "f.data"}
_COLUMNS = {Want.MODSEQ: "m.modseq", Want.DATE: "CAST(m.date AS INTEGER)", Want.SIZE: "m.size"} | _BLOCKS
MAILBOX = "(SELECT id FROM mailbox WHERE folder = ? AND uidvalidity = ?)"
# A message's file is named, with the time, when it comes into its mailbox; one that is moved keeps its name.
SAVED_AT = (
    "coalesce((SELECT seconds FROM saved s WHERE s.mailbox = m.mailbox AND s.uid = m.uid),"
    " CASE WHEN CAST(m.base AS INTEGER) BETWEEN 1 AND 4294967295 THEN CAST(m.base AS INTEGER) END)"
)
_CACHE_JOIN = " LEFT JOIN cache c ON c.mailbox = m.mailbox AND c.uid = m.uid"
_FIELDS_JOIN = (
    " LEFT JOIN fields f ON f.mailbox = m.mailbox AND f.uid = m.uid"
    " AND f.field_set = (SELECT id FROM field_set WHERE names = ?)"
)
Key = tuple[str, int]
"""A mailbox: its folder and UIDVALIDITY."""


@dataclass(slots=True)
class Entry:
    """A message's row and what is cached of it; ``is_new`` when something was worked out.

    ``fields`` is the block of the fields that were asked for; they are written for themselves.
    """

    path: str
    date: float
    stored: int
    size: int | None
    envelope: bytes | None = None
    structure: bytes | None = None
    parts: bytes | None = None
    email_id: str | None = None
    preview: str | None = None
    header: bytes | None = None
    fields: bytes | None = None
    modseq: int = 0
    saved: int | None = None
    is_new: bool = False
    has_new_fields: bool = False


def entries(
    database: sqlite3.Connection, key: Key, uids: Sequence[int], want: Want, names: frozenset[bytes]
) -> dict[int, Entry]:
    """Messages by UID, with what is wanted as far as it is known."""
    cached = [f"c.{name}" if want & needed else "NULL" for name, needed in _CACHED.items()]
    if Want.HEADER in want:
        cached.append("c.header")
    else:  # it is what the fields are taken from where they are not known
        cached.append("CASE WHEN f.data IS NULL THEN c.header END" if Want.FIELDS in want else "NULL")
    cached.append("f.data" if Want.FIELDS in want else "NULL")
    cached.append("m.modseq" if Want.MODSEQ in want else "0")
    cached.append(SAVED_AT if Want.SAVED in want else "NULL")
    columns = f"m.uid, m.place || m.base || m.info, m.date, m.stored, m.size, {', '.join(cached)}"
    rows = _execute(database, key, uids, columns, names)
    return {row[0]: Entry(*row[1:]) for row in rows}


def columns(
    database: sqlite3.Connection, key: Key, uids: Sequence[int], want: Want, names: frozenset[bytes]
) -> dict[Want, tuple[object, ...]] | None:
    """What is wanted of the first of these messages, column by column; None where any of that is not known."""
    parts = [part for part in _COLUMNS if part in want]
    cursor = _execute(database, key, uids, ", ".join(["m.uid", *(_COLUMNS[part] for part in parts)]), names)
    blocks = [at for at, part in enumerate(parts, 1) if part in _BLOCKS]
    rows: list[tuple[object, ...]] = []
    octets = 0
    while octets < CHUNKS_OCTETS and (chunk := cursor.fetchmany(CHUNK_ROWS)):
        if any(None in row for row in chunk):
            return None
        rows += chunk
        for at in blocks:
            octets += sum(len(row[at] or b"") for row in chunk)
    found, *values = zip(*rows, strict=True) if rows else [()]
    if not rows or found != tuple(uids[: len(rows)]):
        return None
    return dict(zip(parts, values, strict=True))


def _execute(
    database: sqlite3.Connection, key: Key, uids: Sequence[int], columns: str, names: frozenset[bytes]
) -> sqlite3.Cursor:
    query = f"SELECT {columns} FROM message m"  # noqa: S608
    values: list[object] = []
    if "c." in columns:
        query += _CACHE_JOIN
    if "f." in columns:
        query += _FIELDS_JOIN
        values.append(_text(names))
    if uids[-1] - uids[0] == len(uids) - 1:
        among = "BETWEEN ? AND ?"
        bounds: tuple[object, ...] = (uids[0], uids[-1])
    else:
        among = "IN (SELECT value FROM json_each(?))"
        bounds = (json.dumps(list(uids)),)
    query += f" WHERE m.mailbox = {MAILBOX} AND m.uid {among} ORDER BY m.uid"
    return database.execute(query, (*values, *key, *bounds))


def write(
    database: sqlite3.Connection, key: Key, fresh: list[tuple[int, Entry]], want: Want, names: frozenset[bytes]
) -> None:
    """Keeps what was worked out."""
    row = database.execute("SELECT id FROM mailbox WHERE (folder, uidvalidity) = (?, ?)", key).fetchone()
    if row is None:
        return
    mailbox = row[0]
    _write_entries(database, mailbox, [(uid, entry) for uid, entry in fresh if entry.is_new])
    if Want.FIELDS in want:
        blocks = [(uid, entry.fields) for uid, entry in fresh if entry.has_new_fields]
        _write_fields(database, mailbox, blocks, _text(names))


def _write_entries(database: sqlite3.Connection, mailbox: int, fresh: list[tuple[int, Entry]]) -> None:
    database.executemany(
        "UPDATE message SET size = ? WHERE mailbox = ? AND uid = ? AND size IS NOT ?",
        [(entry.size, mailbox, uid, entry.size) for uid, entry in fresh],
    )
    # The message may have been expunged meanwhile; what was not asked for this time stays.
    database.executemany(
        "INSERT INTO cache SELECT mailbox, uid, ?, ?, ?, ?, ?, ? FROM message WHERE mailbox = ? AND uid = ?"
        " ON CONFLICT DO UPDATE SET envelope = coalesce(excluded.envelope, envelope),"
        " structure = coalesce(excluded.structure, structure), parts = coalesce(excluded.parts, parts),"
        " header = coalesce(excluded.header, header), email_id = coalesce(excluded.email_id, email_id),"
        " preview = coalesce(excluded.preview, preview)",
        [
            (entry.envelope, entry.structure, entry.parts, entry.header, entry.email_id, entry.preview, mailbox, uid)
            for uid, entry in fresh
        ],
    )


def _write_fields(
    database: sqlite3.Connection, mailbox: int, blocks: list[tuple[int, bytes | None]], names: str
) -> None:
    row = database.execute("SELECT id FROM field_set WHERE names = ?", (names,)).fetchone()
    if row is None:
        if len(blocks) < WORTH_A_SET:
            return
        row = (_new_field_set(database, names),)
    database.executemany(
        "INSERT OR REPLACE INTO fields SELECT mailbox, ?, uid, ? FROM message WHERE mailbox = ? AND uid = ?",
        [(row[0], block, mailbox, uid) for uid, block in blocks],
    )


def _new_field_set(database: sqlite3.Connection, names: str) -> int:
    kept = [number for (number,) in database.execute("SELECT id FROM field_set ORDER BY id DESC")][: FIELD_SETS - 1]
    youngest = json.dumps(kept)
    database.execute("DELETE FROM fields WHERE field_set NOT IN (SELECT value FROM json_each(?))", (youngest,))
    database.execute("DELETE FROM field_set WHERE id NOT IN (SELECT value FROM json_each(?))", (youngest,))
    return database.execute("INSERT INTO field_set (names) VALUES (?) RETURNING id", (names,)).fetchone()[0]


def _text(names: frozenset[bytes]) -> str:
    return json.dumps(sorted(name.decode("latin-1") for name in names))
