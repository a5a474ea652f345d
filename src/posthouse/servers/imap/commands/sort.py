"""SORT (RFC 5256 §3), with RETURN (RFC 5267 §3)."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Sort
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.searchkeys import BAD_CHARSET
from posthouse.servers.imap import results
from posthouse.servers.imap.contexts import TAG_IN_USE

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def sort(session: "ImapSession", command: Sort) -> Completion:
    view, returns = session.selected, command.returns
    if session.contexts.has(command.tag) and returns is not None and b"UPDATE" in returns.names:
        return TAG_IN_USE
    uids: Sequence[int] = []
    try:
        if not command.is_charset_known:
            return BAD_CHARSET
        uids = await view.sort(command.query, command.criteria)
    finally:
        # RFC 5182 §2.1: one that fails keeps nothing.
        if returns is not None and b"SAVE" in returns.names:
            view.saved = results.kept(returns, uids)
    found = uids if command.uid else [bisect_left(view.uids, uid) + 1 for uid in uids]
    scores = await results.scores(view, command, uids)
    if returns is None:
        session.engine.untagged(" ".join(["SORT", *map(str, found)]).encode())
    elif response := results.esearch(command.tag, returns, found, uid=command.uid, scores=scores):
        session.engine.untagged(response)
    if returns is not None and b"UPDATE" in returns.names:
        session.contexts.keep(session, command, uids)
    return ok("SORT completed")
