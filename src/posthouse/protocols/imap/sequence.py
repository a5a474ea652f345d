"""Sequence sets: ``2:4,7,12:*`` (RFC 3501 §9), and ``$`` for what a search kept (RFC 5182 §2.1).

Invariant: a set stays a list of ranges. ``1:4294967295`` is one pair, never four billion numbers.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from posthouse.message.query import SAVED, STAR, Ranges, resolve_ranges
from posthouse.protocols.imap.cursor import Cursor, syntax_error

_set = re.compile(rb"(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?(?:,(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?)*").match


def parse_sequence_set(cursor: Cursor) -> Ranges:
    """The ranges as given: ``(low, high)`` may be in either order, and either may be STAR; SAVED for ``$``."""
    if cursor.skip(b"$"):
        return SAVED
    match = _set(cursor.data, cursor.position)
    if match is None:
        raise syntax_error("Expected a message set")
    cursor.position = match.end()
    ranges: list[tuple[int, int]] = []
    for item in match.group().split(b","):
        low, _, high = item.partition(b":")
        first = _bound(low)
        ranges.append((first, _bound(high) if high else first))
    return tuple(ranges)


def _bound(text: bytes) -> int:
    if text == b"*":
        return STAR
    number = int(text)
    if not 0 < number <= 0xFFFFFFFF:
        raise syntax_error("Invalid number in a message set")
    return number


def sequence_slices(ranges: Ranges, count: int) -> list[slice] | None:
    """Where the messages with these sequence numbers are among ``count``; None when one doesn't exist.

    RFC 3501 §9 (seq-number): a number that is larger than the mailbox gets BAD, and so does ``*`` in an empty
    one.
    """
    if any(low > count or high > count for low, high in ranges) or not count:
        return None
    return [slice(low - 1, high) for low, high in resolve_ranges(ranges, count)]


def uid_slices(ranges: Ranges, uids: Sequence[int]) -> list[slice]:
    """Where the messages with these UIDs are in ``uids``, which ascends; UIDs not in use select nothing."""
    if not uids:
        return []
    pairs = resolve_ranges(ranges, uids[-1])
    slices = (slice(bisect_left(uids, low), bisect_right(uids, high)) for low, high in pairs)
    return [part for part in slices if part.start < part.stop]
