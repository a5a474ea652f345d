"""Searches whose results are kept up to date for the client (RFC 5267 §4.3): ``UPDATE`` in RETURN of SEARCH and SORT.

Invariants:
  1. What the client has been told of a context is ``uids``, in that order; each response brings it up to them.
  2. A message that is expunged leaves before its number does; one that is new enters after it has one.
  3. A context that can't be kept up to date any more is given up, and the client hears of it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from posthouse.base.errors import PosthouseError
from posthouse.message.query import SAVED, STAR, And, Fuzzy, Not, Or, Query, SequenceSet, UidSet
from posthouse.protocols.imap.commands import Search, Sort
from posthouse.protocols.imap.render import bad, sequence_set, string
from posthouse.store.model import Changes
from posthouse.store.view import View

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

TAG_IN_USE: Final = bad("A result that is kept up to date has this tag")
MOST: Final = 10
"""How many a session may have; the RFC asks for one at least."""


@dataclass(slots=True)
class Context:
    """One search or sort, and the result that the client knows."""

    command: Search
    uids: list[int]


class Contexts:
    """Those of one selected mailbox."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[bytes, Context] = {}

    def has(self, tag: bytes) -> bool:
        return tag in self._kept

    def keep(self, session: "ImapSession", command: Search, uids: Sequence[int]) -> None:
        """Keeps a result up to date from now on, or says that it won't be (RFC 5267 §4.3.1)."""
        if len(self._kept) >= MOST or _mentions(command.query, SAVED):
            refuse(session, command.tag)
            return
        self._kept[command.tag] = Context(command, list(uids))
        if session.selected.touched is None:
            session.selected.touched = set()

    def cancel(self, tags: Iterable[bytes]) -> None:
        """The client has no more use for these."""
        for tag in tags:
            self._kept.pop(tag, None)

    def clear(self) -> None:
        """Another mailbox is selected, or none."""
        self._kept.clear()

    def numbered(self, view: View) -> Sequence[int]:
        """The UIDs by their sequence numbers, for ``gone``."""
        return view.uids[:] if self._kept else ()

    def gone(self, changes: Changes, before: Sequence[int]) -> bytes:
        """What leaves because it is expunged, by the numbers that it had ``before``."""
        if not (self._kept and changes.vanished):
            return b""
        vanished = set(changes.vanished)
        lines: list[bytes] = []
        for context in self._kept.values():
            lost = vanished.intersection(context.uids)
            if lost:
                left = [uid for uid in context.uids if uid not in lost]
                lines.append(_told(context, left, before))
        return b"".join(lines)

    async def refresh(self, session: "ImapSession", changes: Changes) -> None:
        """Says what has entered and left by changes of flags and arrivals."""
        view = session.selected
        touched = view.touched
        if touched is None or view.withholds:  # what is gone has to leave first
            return
        view.touched = set() if self._kept else None
        if not (touched or changes.vanished):
            return
        for tag, context in list(self._kept.items()):
            try:
                found = await _found(view, context, touched)
            except PosthouseError:
                del self._kept[tag]
                refuse(session, tag)
                continue
            if found != context.uids:
                session.engine.send(_told(context, found, view.uids))


async def _found(view: View, context: Context, touched: set[int]) -> list[int]:
    """The result as it is now."""
    query = context.command.query
    if isinstance(context.command, Sort):
        return await view.sort(query, context.command.criteria)
    if _is_by_number(query):
        return await view.search(query)
    if not touched:
        return context.uids
    among = UidSet(tuple((uid, uid) for uid in sorted(touched)))
    matching = await view.search(And((among, query)))
    return sorted({*context.uids}.difference(touched).union(matching))


def _told(context: Context, found: list[int], numbered: Sequence[int]) -> bytes:
    """ESEARCH responses that bring the client from what it knows to ``found``."""
    before, after = set(context.uids), set(found)
    left, stayed = before - after, before & after
    if [uid for uid in context.uids if uid in stayed] != [uid for uid in found if uid in stayed]:
        left = before  # they have another order: all of them are told anew
    entered = after - (before - left)
    is_sorted = isinstance(context.command, Sort)
    # From the end, so that no position depends on another; then from the beginning, each behind those that are there.
    removed = [(at, uid) for at, uid in enumerate(context.uids, 1) if uid in left][::-1]
    added = [(at, uid) for at, uid in enumerate(found, 1) if uid in entered]
    context.uids = found
    return b"".join(
        _line(context.command, word, moves, numbered, is_sorted=is_sorted)
        for word, moves in ((b"REMOVEFROM", removed), (b"ADDTO", added))
        if moves
    )


def _line(
    command: Search, word: bytes, moves: list[tuple[int, int]], numbered: Sequence[int], *, is_sorted: bool
) -> bytes:
    """``ADDTO (0 5:7)``, and for a sorted result each with its position (RFC 5267 §4.3.3, §4.3.4)."""
    names = [uid if command.uid else bisect_left(numbered, uid) + 1 for _, uid in moves]
    if is_sorted:
        pieces = [b"%d %d" % (at, name) for (at, _), name in zip(moves, names, strict=True)]
    else:
        pieces = [b"0 " + sequence_set(sorted(names))]
    uid = b" UID" if command.uid else b""
    return b"* ESEARCH (TAG %b)%b %b (%b)\r\n" % (string(command.tag), uid, word, b" ".join(pieces))


def refuse(session: "ImapSession", tag: bytes) -> None:
    session.engine.untagged(b"OK [NOUPDATE %b] This result is not kept up to date" % string(tag))


def _mentions(key: Query, ranges: object) -> bool:
    return any(isinstance(leaf, SequenceSet | UidSet) and leaf.ranges == ranges for leaf in _leaves(key))


def _is_by_number(key: Query) -> bool:
    """Whether messages may match or not because of others: by their numbers, or as the last one."""
    return any(
        isinstance(leaf, SequenceSet) or (isinstance(leaf, UidSet) and any(STAR in ends for ends in leaf.ranges))
        for leaf in _leaves(key)
    )


def _leaves(key: Query) -> Iterable[Query]:
    match key:
        case And(keys):
            for each in keys:
                yield from _leaves(each)
        case Or(a, b):
            yield from _leaves(a)
            yield from _leaves(b)
        case Not(inner) | Fuzzy(inner):
            yield from _leaves(inner)
        case _:
            yield key
