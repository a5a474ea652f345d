"""The messages that a command's set means, in the mailbox as the client sees it."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.message.query import SAVED, Ranges
from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.render import bad, no
from posthouse.protocols.imap.sequence import sequence_slices, uid_slices
from posthouse.store.view import View

READ_ONLY: Final = no("The mailbox is selected read-only")


@dataclass(frozen=True, slots=True)
class Selection:
    """Messages in ascending order: their UIDs, and where they are in the view."""

    uids: Sequence[int]
    slices: Sequence[slice]

    def numbers(self) -> dict[int, int]:
        """The sequence number of each UID."""
        numbers: dict[int, int] = {}
        at = 0
        for part in self.slices:
            count = part.stop - part.start
            numbers.update(zip(self.uids[at : at + count], range(part.start + 1, part.stop + 1), strict=True))
            at += count
        return numbers

    def only(self, view: View, uids: Sequence[int]) -> "Selection":
        """Those of these UIDs that are in it."""
        starts = [part.start for part in self.slices]
        slices: list[slice] = []
        for uid in uids:
            at = bisect_left(view.uids, uid)
            part = bisect_right(starts, at) - 1
            if part >= 0 and at < self.slices[part].stop and view.uids[at] == uid:
                slices.append(slice(at, at + 1))
        return Selection([view.uids[part.start] for part in slices], slices)


def select_messages(view: View, ranges: Ranges, *, uid: bool) -> Selection:
    """Raises BadCommandError for a sequence number that no message has."""
    if ranges == SAVED:
        slices = list(_saved_slices(view.saved, view.uids))
    else:
        slices = uid_slices(ranges, view.uids) if uid else sequence_slices(ranges, len(view.uids))
    if slices is None:
        raise BadCommandError(bad("No message has such a sequence number"))
    if slices == [slice(0, len(view.uids))]:
        return Selection(view.uids, slices)
    return Selection([uid for part in slices for uid in view.uids[part]], slices)


def _saved_slices(saved: Iterable[int], uids: Sequence[int]) -> Iterator[slice]:
    """Where those of ``saved`` are that are still there; both ascend."""
    start = stop = -1
    for uid in saved:
        at = bisect_left(uids, uid, lo=max(stop, 0))
        if at == len(uids) or uids[at] != uid:
            continue
        if at != stop:
            if stop > start:
                yield slice(start, stop)
            start = at
        stop = at + 1
    if stop > start:
        yield slice(start, stop)
