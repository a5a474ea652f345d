"""Digests of messages in the index: searching, sorting and threading are one query where all of them are there.

Invariant: it is only a cache. A message without a digest is looked at itself.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from posthouse.message.digest import Digest
from posthouse.message.threads import Threaded
from posthouse.store.cache import MAILBOX, Key

SCHEMA: Final = """
CREATE TABLE digest (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    day INTEGER,
    sent INTEGER,
    subject TEXT,
    sender TEXT,
    recipient TEXT,
    cc TEXT,
    bcc TEXT,
    base_subject TEXT NOT NULL,
    is_reply INTEGER NOT NULL,
    from_box TEXT NOT NULL,
    to_box TEXT NOT NULL,
    cc_box TEXT NOT NULL,
    from_name TEXT NOT NULL,
    to_name TEXT NOT NULL,
    message_id BLOB NOT NULL,
    "references" BLOB NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE TRIGGER digest_gone AFTER DELETE ON message BEGIN
    DELETE FROM digest WHERE mailbox = old.mailbox AND uid = old.uid;
END;
"""
FIELDS: Final = {b"subject": "subject", b"from": "sender", b"to": "recipient", b"cc": "cc", b"bcc": "bcc"}
"""The header fields that are searched here, and their columns."""

_SENT = "coalesce(d.sent, CAST(m.date AS INTEGER))"  # RFC 5256 §2.2: the internal date where there is no other
RELEVANCY: Final = "RELEVANCY"
SORT_COLUMNS: Final = {
    RELEVANCY: "-relevancy(m.uid)",
    "ARRIVAL": "CAST(m.date AS INTEGER)",
    "CC": "d.cc_box",
    "DATE": _SENT,
    "DISPLAYFROM": "d.from_name",
    "DISPLAYTO": "d.to_name",
    "FROM": "d.from_box",
    "SIZE": "m.size",
    "SUBJECT": "d.base_subject",
    "TO": "d.to_box",
}
_JOINED = f"FROM message m JOIN digest d ON d.mailbox = m.mailbox AND d.uid = m.uid WHERE m.mailbox = {MAILBOX}"
_UNDIGESTED = (
    f"SELECT uid FROM message m WHERE mailbox = {MAILBOX}"  # noqa: S608
    " AND NOT EXISTS (SELECT 1 FROM digest d WHERE d.mailbox = m.mailbox AND d.uid = m.uid)"
)


def missing(database: sqlite3.Connection, key: Key) -> set[int]:
    """The messages that have no digest yet."""
    return {uid for (uid,) in database.execute(_UNDIGESTED, key)}


def write(database: sqlite3.Connection, key: Key, made: Iterable[tuple[int, Digest]]) -> None:
    """Keeps digests, but not those of messages that have gone meanwhile."""
    marks = ", ".join("?" * len(Digest._fields))
    database.executemany(
        f"INSERT OR REPLACE INTO digest SELECT mailbox, uid, {marks} FROM message"  # noqa: S608
        f" WHERE mailbox = {MAILBOX} AND uid = ?",
        [(*each, *key, uid) for uid, each in made],
    )


def containing(database: sqlite3.Connection, key: Key, field: bytes, text: str) -> set[int]:
    """The messages that have such a field with this text, which is casemapped, in it."""
    column = FIELDS[field]
    query = f"SELECT uid FROM digest WHERE mailbox = {MAILBOX}"  # noqa: S608
    if not text:
        return {uid for (uid,) in database.execute(f"{query} AND {column} IS NOT NULL", key)}
    return {uid for (uid,) in database.execute(f"{query} AND instr({column}, ?)", (*key, text))}


def sent(database: sqlite3.Connection, key: Key, comparison: str, day: int) -> set[int]:
    """The messages whose Date is ``<``, ``=`` or ``>=`` a day, an ordinal."""
    query = f"SELECT uid FROM digest WHERE mailbox = {MAILBOX} AND day {comparison} ?"  # noqa: S608
    return {uid for (uid,) in database.execute(query, (*key, day))}


def ordered(
    database: sqlite3.Connection, key: Key, criteria: Sequence[tuple[str, bool]], scores: Mapping[int, int]
) -> list[int]:
    """All messages that have a digest, by ``SORT_COLUMNS``, each reversed or not; at last by number (RFC 5256 §3).

    ``scores``: for RELEVANCY, which has the highest first (RFC 6203 §6).
    """
    if RELEVANCY in dict(criteria):
        database.create_function("relevancy", 1, lambda uid: scores.get(uid, 0))
    order = "".join(f"{SORT_COLUMNS[name]}{' DESC' * is_reversed}, " for name, is_reversed in criteria)
    query = f"SELECT m.uid {_JOINED} ORDER BY {order} m.uid"
    return [uid for (uid,) in database.execute(query, key)]


def threaded(database: sqlite3.Connection, key: Key) -> list[Threaded]:
    """What threading needs of all messages that have a digest."""
    query = (
        f'SELECT m.uid, {_SENT}, d.base_subject, d.is_reply, d.message_id, d."references" {_JOINED} ORDER BY m.uid'
    )
    return [Threaded(*row) for row in database.execute(query, key)]
