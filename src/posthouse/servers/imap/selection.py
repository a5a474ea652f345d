"""The messages that a command's set means, in the mailbox as the client sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.message.query import Ranges
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


def select_messages(view: View, ranges: Ranges, *, uid: bool) -> Selection:
    """Raises BadCommandError for a sequence number that no message has."""
    slices = uid_slices(ranges, view.uids) if uid else sequence_slices(ranges, len(view.uids))
    if slices is None:
        raise BadCommandError(bad("No message has such a sequence number"))
    if slices == [slice(0, len(view.uids))]:
        return Selection(view.uids, slices)
    return Selection([uid for part in slices for uid in view.uids[part]], slices)
