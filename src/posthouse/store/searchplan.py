"""What a search finds without opening a message: flags, numbers, and what the index has of dates, sizes and headers.

Every key has bounds: the messages that match for sure, and those that may. The whole tree's bounds follow from them;
only what is between has to be looked at (``search``). Blocking.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from posthouse.message import query
from posthouse.message.casemap import casemap
from posthouse.message.query import Query, resolve_ranges
from posthouse.store import digests
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.cache import MAILBOX, SAVED_AT, Key
from posthouse.store.fulltext import Texts
from posthouse.store.keywords import RECENT, Keywords


@dataclass(frozen=True, slots=True)
class Scope:
    """The messages of a view at one moment; ``uids`` ascend, ``masks`` are their flags."""

    key: Key
    uids: Sequence[int]
    masks: Sequence[int]
    letters: Keywords
    saved: frozenset[int]
    now: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """``sure`` is part of ``maybe``."""

    sure: AbstractSet[int]
    maybe: AbstractSet[int]


_COMPARISONS: Final[dict[type, str]] = {
    query.SavedBefore: "<", query.SavedSince: ">=",
    query.Before: "<", query.Since: ">=", query.SentBefore: "<", query.SentOn: "=", query.SentSince: ">=",
}  # fmt: skip
_DAY_SECONDS: Final = 86_400


def needs_digests(key: Query) -> bool:
    """Whether the tree has a key that digests answer."""
    match key:
        case query.And(keys):
            return any(map(needs_digests, keys))
        case query.Or(a, b):
            return needs_digests(a) or needs_digests(b)
        case query.Not(inner):
            return needs_digests(inner)
        case query.Header(name, _):
            return name.lower().encode("utf-8", "replace") in digests.FIELDS
        case _:
            return isinstance(key, query.SentBefore | query.SentOn | query.SentSince)


def needs_texts(key: Query) -> bool:
    """Whether the tree has a key that the search index answers."""
    match key:
        case query.And(keys):
            return any(map(needs_texts, keys))
        case query.Or(a, b):
            return needs_texts(a) or needs_texts(b)
        case query.Not(inner):
            return needs_texts(inner)
        case _:
            return isinstance(key, query.Body | query.Text)


def bounds(files: AccountFiles, key: Query, scope: Scope, texts: Texts | None = None) -> Bounds:
    """Of the whole tree, within the scope."""
    with files.index.reading() as database:
        return _Planner(database, scope, texts).bounds(key)


_SAVED = f"coalesce({SAVED_AT}, CAST(m.date AS INTEGER))"


class _Planner:
    def __init__(self, database: sqlite3.Connection, scope: Scope, texts: Texts | None) -> None:
        self.database = database
        self.scope = scope
        self.texts = texts
        self.all = frozenset(scope.uids)
        self._undigested: AbstractSet[int] | None = None

    def bounds(self, key: Query) -> Bounds:
        match key:
            case query.And(keys):
                return self._every(keys)
            case query.Or(a, b):
                one, other = self.bounds(a), self.bounds(b)
                return Bounds(one.sure | other.sure, one.maybe | other.maybe)
            case query.Not(inner):
                of_inner = self.bounds(inner)
                return Bounds(self.all - of_inner.maybe, self.all - of_inner.sure)
            case _:
                return self._leaf(key)

    def _every(self, keys: Sequence[Query]) -> Bounds:
        found = Bounds(self.all, self.all)
        for key in dict.fromkeys(keys):
            if not found.maybe:
                break
            one = self.bounds(key)
            found = Bounds(found.sure & one.sure, found.maybe & one.maybe)
        return found

    def _leaf(self, key: Query) -> Bounds:
        if isinstance(key, query.Header | query.SentBefore | query.SentOn | query.SentSince):
            return self._digested(key)
        if isinstance(key, query.Larger | query.Smaller):
            comparison = ">" if isinstance(key, query.Larger) else "<"
            return self._bounded(self._rows(f"size {comparison} ?", key.size_bytes), self._rows("size IS NULL"))
        if isinstance(key, query.Body | query.Text):
            return self._said(key)
        exactly = self._exactly(key)
        return Bounds(frozenset(), self.all) if exactly is None else Bounds(exactly, exactly)

    def _exactly(self, key: Query) -> AbstractSet[int] | None:
        """The messages that match, or None where that is not known here."""
        if isinstance(key, query.All):
            return self.all
        if isinstance(key, query.HasFlag):
            return self._flagged(key.flag)
        if isinstance(key, query.SequenceSet | query.UidSet):
            return self._numbered(key)
        if isinstance(key, query.Before | query.On | query.Since | query.Older | query.Younger):
            return self._dated(key)
        if isinstance(key, query.SavedBefore | query.SavedOn | query.SavedSince):
            return self._saved(key)
        return None

    def _flagged(self, flag: str) -> AbstractSet[int]:
        scope = self.scope
        bit = RECENT if flag.lower() == "\\recent" else scope.letters.bit(flag)
        return {uid for uid, mask in zip(scope.uids, scope.masks, strict=True) if mask & bit} if bit else frozenset()

    def _numbered(self, key: query.SequenceSet | query.UidSet) -> AbstractSet[int]:
        uids = self.scope.uids
        if key.ranges == query.SAVED:
            return self.scope.saved & self.all
        if isinstance(key, query.UidSet):
            ranges = resolve_ranges(key.ranges, uids[-1] if uids else 0)
            return {uid for low, high in ranges for uid in self._between(low, high)}
        return {uid for low, high in resolve_ranges(key.ranges, len(uids)) for uid in uids[max(low - 1, 0) : high]}

    def _between(self, low: int, high: int) -> Sequence[int]:
        uids = self.scope.uids
        return uids[bisect_left(uids, low) : bisect_right(uids, high)]

    def _dated(self, key: query.Before | query.On | query.Since | query.Older | query.Younger) -> AbstractSet[int]:
        if isinstance(key, query.Older):  # RFC 5032 §2
            return self._rows("date <= ?", self.scope.now - key.seconds) & self.all
        if isinstance(key, query.Younger):
            return self._rows("date >= ?", self.scope.now - key.seconds) & self.all
        start = _seconds(key.date)
        if isinstance(key, query.On):
            return self._rows("CAST(date AS INTEGER) BETWEEN ? AND ?", start, start + _DAY_SECONDS - 1) & self.all
        return self._rows(f"CAST(date AS INTEGER) {_COMPARISONS[type(key)]} ?", start) & self.all

    def _saved(self, key: query.SavedBefore | query.SavedOn | query.SavedSince) -> AbstractSet[int]:
        """RFC 8514 §4.3: where that is not known, by the internal date."""
        start = _seconds(key.date)
        if isinstance(key, query.SavedOn):
            return self._rows(f"{_SAVED} BETWEEN ? AND ?", start, start + _DAY_SECONDS - 1) & self.all
        return self._rows(f"{_SAVED} {_COMPARISONS[type(key)]} ?", start) & self.all

    def _digested(self, key: query.Header | query.SentBefore | query.SentOn | query.SentSince) -> Bounds:
        scope = self.scope
        if not isinstance(key, query.Header):
            found = digests.sent(self.database, scope.key, _COMPARISONS[type(key)], key.date.toordinal())
        else:
            name = key.name.lower().encode("utf-8", "replace")
            if name not in digests.FIELDS:
                return Bounds(frozenset(), self.all)
            found = digests.containing(self.database, scope.key, name, casemap(key.text))
        if self._undigested is None:
            self._undigested = digests.missing(self.database, scope.key)
        return self._bounded(found, self._undigested)

    def _said(self, key: query.Body | query.Text) -> Bounds:
        if not key.text:
            return Bounds(self.all, self.all)
        texts = self.texts
        found = texts and texts.candidates(casemap(key.text), header=isinstance(key, query.Text))
        if texts is None or found is None:
            return Bounds(frozenset(), self.all)
        return Bounds(found.sure & self.all, (found.maybe & self.all) | (self.all - texts.uids))

    def _bounded(self, sure: AbstractSet[int], unsure: AbstractSet[int]) -> Bounds:
        sure = sure & self.all
        return Bounds(sure, sure | (unsure & self.all) if unsure else sure)

    def _rows(self, condition: str, *values: object) -> AbstractSet[int]:
        rows = self.database.execute(
            f"SELECT uid FROM message m WHERE mailbox = {MAILBOX} AND {condition}",  # noqa: S608
            (*self.scope.key, *values),
        )
        return {uid for (uid,) in rows}


def _seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
