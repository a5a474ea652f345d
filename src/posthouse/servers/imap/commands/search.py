"""SEARCH (RFC 3501 §6.4.4)."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Search
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def search(session: "ImapSession", command: Search) -> Completion:
    view = session.selected
    found: Sequence[int] = await view.search(command.query)
    if not command.uid:
        uids = view.uids
        found = [bisect_left(uids, uid) + 1 for uid in found]
    session.engine.untagged(" ".join(["SEARCH", *map(str, found)]).encode())
    return ok("SEARCH completed")
