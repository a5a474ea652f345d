"""THREAD (RFC 5256 §3, §4)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from posthouse.message import threads
from posthouse.message.threads import Node, Threaded
from posthouse.protocols.imap.commands import Thread
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.searchkeys import BAD_CHARSET

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

ALGORITHMS: Final[dict[str, Callable[[list[Threaded]], list[Node]]]] = {
    "ORDEREDSUBJECT": threads.ordered_subject,
    "REFERENCES": threads.by_references,
    "REFS": threads.refs,
}


async def thread(session: "ImapSession", command: Thread) -> Completion:
    if not command.is_charset_known:
        return BAD_CHARSET
    view = session.selected
    roots = await view.thread(command.query, ALGORITHMS[command.algorithm])
    numbers: dict[int, int] | None = None
    if not command.uid:
        numbers = {uid: number for number, uid in enumerate(view.uids, 1)}
    session.engine.untagged(b"THREAD" + b" " * bool(roots) + thread_list(roots, numbers))
    return ok("THREAD completed")


def thread_list(roots: Sequence[Node], numbers: dict[int, int] | None) -> bytes:
    """``(2)(3 6 (4 23)(44 7 96))``: by ``numbers``, or UIDs (RFC 5256 §4)."""
    pieces: list[bytes] = []
    pending: list[Node | bytes] = [piece for root in reversed(roots) for piece in (b")", root, b"(")]
    while pending:
        each = pending.pop()
        if isinstance(each, bytes):
            pieces.append(each)
            continue
        if each.uid:
            if pieces[-1] != b"(":
                pieces.append(b" ")
            pieces.append(b"%d" % (numbers[each.uid] if numbers else each.uid))
        if len(each.children) == 1:
            pending.append(each.children[0])
        elif each.children:
            if each.uid:
                pieces.append(b" ")
            pending += [piece for child in reversed(each.children) for piece in (b")", child, b"(")]
    return b"".join(pieces)
