"""What SEARCH and SORT have found, as the client wants to hear it.

RFC 4731, RFC 5182, RFC 5267, RFC 6203, RFC 9394.
"""

from collections.abc import Sequence

from posthouse.protocols.imap.commands import ReturnOptions, Search
from posthouse.protocols.imap.render import sequence_set, string
from posthouse.store.view import View


def esearch(
    tag: bytes,
    returns: ReturnOptions,
    found: Sequence[int],
    *,
    uid: bool,
    scores: Sequence[int] = (),
    mailbox: tuple[bytes, int] | None = None,
) -> bytes:
    """The ESEARCH response without its ``* ``; ``found`` (numbers or UIDs) and ``scores`` are in the result's order.

    MIN and MAX are its first and its last; so Dovecot has it for SORT too. ``mailbox``: where they are, the name as
    it goes over the wire and UIDVALIDITY, where that is not to be taken for granted (RFC 7377 §2.1).

    Empty where nothing was to be said (RFC 5182 §2.1: SAVE alone).
    """
    if returns.names == {b"SAVE"}:
        return b""
    where = b" MAILBOX %b UIDVALIDITY %d" % mailbox if mailbox is not None else b""
    items = [b"ESEARCH (TAG %b%b)" % (string(tag), where)]
    if uid:
        items.append(b"UID")
    if found:
        if b"MIN" in returns.names:
            items.append(b"MIN %d" % found[0])
        if b"MAX" in returns.names:
            items.append(b"MAX %d" % found[-1])
        if b"ALL" in returns.names:
            items.append(b"ALL %b" % sequence_set(found))
    if b"COUNT" in returns.names:
        items.append(b"COUNT %d" % len(found))
    if returns.partial is not None:
        numbers = sequence_set(part(found, returns.partial)) or b"NIL"
        items.append(b"PARTIAL (%d:%d %b)" % (*returns.partial, numbers))
        scores = part(scores, returns.partial)
    if scores:
        items.append(b"RELEVANCY (%b)" % b" ".join(b"%d" % score for score in scores))
    return b" ".join(items)


async def scores(view: View, command: Search, uids: Sequence[int]) -> list[int]:
    """The relevancy of what was found, where that is wanted (RFC 6203 §4)."""
    if command.returns is None or b"RELEVANCY" not in command.returns.names:
        return []
    known = await view.relevancy(command.query, uids)
    return [known[uid] for uid in uids]


def part(found: Sequence[int], wanted: tuple[int, int]) -> Sequence[int]:
    """The places of the result that PARTIAL names, in the result's order (RFC 9394 §3.1)."""
    low, high = sorted(wanted)
    if low > 0:
        return found[low - 1 : high]
    count = len(found)
    return found[max(count + low, 0) : max(count + high + 1, 0)]


def kept(returns: ReturnOptions, found: Sequence[int]) -> list[int]:
    """Of the UIDs found, those that SAVE keeps: all, or only what else was asked for if that is less.

    RFC 5182 §2.1 for MIN and MAX; RFC 9394 for PARTIAL.
    """
    if not found:
        return []
    if returns.names & {b"ALL", b"COUNT"} or not returns.names & {b"MIN", b"MAX", b"PARTIAL"}:
        return sorted(found)
    chosen: set[int] = set()
    if b"MIN" in returns.names:
        chosen.add(found[0])
    if b"MAX" in returns.names:
        chosen.add(found[-1])
    if returns.partial is not None:
        chosen.update(part(found, returns.partial))
    return sorted(chosen)
