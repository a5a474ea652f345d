"""SEARCH (RFC 3501 §6.4.4), with RETURN (RFC 4731 §3.1)."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Search
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.searchkeys import BAD_CHARSET
from posthouse.servers.imap import results

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def search(session: "ImapSession", command: Search) -> Completion:
    view, returns = session.selected, command.returns
    is_saved = returns is not None and b"SAVE" in returns.names
    if is_saved and not command.is_charset_known:
        view.saved = []
    if not command.is_charset_known:
        return BAD_CHARSET
    uids: Sequence[int] = []
    try:
        uids = await view.search(command.query)
    finally:
        # RFC 5182 §2.1: a search that fails keeps nothing.
        if is_saved and returns is not None:
            view.saved = results.kept(returns, uids)
    found = uids if command.uid else [bisect_left(view.uids, uid) + 1 for uid in uids]
    if returns is None:
        session.engine.untagged(" ".join(["SEARCH", *map(str, found)]).encode())
    elif response := results.esearch(command.tag, returns, found, uid=command.uid):
        session.engine.untagged(response)
    return ok("SEARCH completed")
