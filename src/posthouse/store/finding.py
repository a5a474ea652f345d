"""Searching, sorting and threading a view: by the index as far as that goes, then by the messages themselves."""

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, TypeVar

from posthouse.message import fuzzy
from posthouse.message.digest import Digest, digest
from posthouse.message.query import And, Header, Query, UidSet
from posthouse.message.threads import Threaded
from posthouse.store import digests, searchplan
from posthouse.store import search as messages
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.cache import Key
from posthouse.store.fulltext import Texts
from posthouse.store.model import Want
from posthouse.store.searchplan import Scope

if TYPE_CHECKING:
    from posthouse.store.view import View

T = TypeVar("T")


async def search(view: "View", query: Query) -> list[int]:
    """The UIDs that match, ascending."""
    query = fuzzy.exact(query)
    scope = view.scope()
    if searchplan.needs_digests(query):
        await _digest(view)
    texts = await view.in_thread(_texts, scope.key) if searchplan.needs_texts(query) else None
    try:
        bounds = await view.in_thread(searchplan.bounds, query, scope, texts)
        found = set(bounds.sure)
        unsure = bounds.maybe - bounds.sure
        if texts is not None:
            known = unsure & texts.uids
            found |= await _matching(view, query, scope, known, texts)
            unsure -= known
        found |= await _matching(view, query, scope, unsure, None)
        return sorted(found)
    finally:
        if texts is not None:
            texts.close()


async def _matching(
    view: "View", query: Query, scope: Scope, uids: AbstractSet[int], texts: Texts | None
) -> set[int]:
    """Those that match among messages that have to be looked at."""
    found: set[int] = set()
    if not uids:
        return found
    sequence = {uid: seq for seq, uid in enumerate(scope.uids, 1)}
    test = messages.compiled(query, messages.Numbers(sequence, scope.uids[-1], scope.saved, scope.now, texts))
    asked = view.fetch(
        sorted(uids), test.want, lambda message: message.uid if test.matches(message) else 0, names=test.names
    )
    async for batch in asked:
        found.update(filter(None, batch))
    return found


def _texts(files: AccountFiles, key: Key) -> Texts | None:
    return files.fulltext.open(files.index.path, key) if files.fulltext is not None else None


async def relevancy(view: "View", query: Query, uids: Sequence[int]) -> dict[int, int]:
    """From 1 to 100: least where only the words of a FUZZY text are there, most where it is there as it was given,
    and in the subject (RFC 6203 §4: the range should be used)."""
    texts = fuzzy.texts(query)
    most = 3 * len(texts)
    points = dict.fromkeys(uids, 0 if texts else 1)
    among = UidSet(tuple((uid, uid) for uid in uids))
    for text in texts:
        for worth, key in ((2, text), (1, Header("Subject", text.text))):
            for uid in await search(view, And((among, key))):
                points[uid] += worth
    return {uid: 1 + 99 * of_uid // max(1, most) for uid, of_uid in points.items()}


async def sort(view: "View", query: Query, criteria: Sequence[tuple[str, bool]]) -> list[int]:
    """The UIDs that match, by ``digests.SORT_COLUMNS``, each reversed or not."""
    found = set(await search(view, query))
    await _digest(view)
    if any(name == "SIZE" for name, _ in criteria):
        async for _ in view.fetch(view.uids, Want.SIZE, lambda message: message.size):
            pass  # sizes that were not known are now
    scores: dict[int, int] = {}
    if any(name == digests.RELEVANCY for name, _ in criteria):
        scores = await relevancy(view, query, sorted(found))
    ordered = await view.in_thread(_ordered, view.scope().key, criteria, scores)
    result = [uid for uid in ordered if uid in found]
    # What has no digest, because its file is gone, comes last.
    return result if len(result) == len(found) else [*result, *sorted(found.difference(result))]


async def thread(view: "View", query: Query, arrange: Callable[[list[Threaded]], T]) -> T:
    """What ``arrange``, of ``message.threads``, makes of the messages that match."""
    found = set(await search(view, query))
    await _digest(view)

    def work(files: AccountFiles, key: Key) -> T:
        with files.index.reading() as database:
            known = digests.threaded(database, key)
        return arrange([message for message in known if message.uid in found])

    return await view.in_thread(work, view.scope().key)


async def _digest(view: "View") -> None:
    """Makes what digests are missing. It is only a cache: trouble with it is nobody's trouble."""
    key = view.scope().key
    missing = await view.in_thread(_missing, key)
    asked = view.fetch(sorted(missing), Want.HEADER, lambda message: (message.uid, digest(message.header())))
    async for made in asked:
        await view.in_thread(_write, key, made)


def _missing(files: AccountFiles, key: Key) -> set[int]:
    with files.index.reading() as database:
        return digests.missing(database, key)


def _ordered(
    files: AccountFiles, key: Key, criteria: Sequence[tuple[str, bool]], scores: Mapping[int, int]
) -> list[int]:
    with files.index.reading() as database:
        return digests.ordered(database, key, criteria, scores)


def _write(files: AccountFiles, key: Key, made: list[tuple[int, Digest]]) -> None:
    with contextlib.suppress(sqlite3.OperationalError), files.index.changing() as database:
        digests.write(database, key, made)
