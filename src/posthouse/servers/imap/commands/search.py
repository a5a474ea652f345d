"""SEARCH (RFC 3501 §6.4.4), with RETURN (RFC 4731 §3.1)."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from posthouse.message.query import asks_modseq
from posthouse.protocols.imap.commands import ReturnOptions, Search
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.searchkeys import BAD_CHARSET
from posthouse.servers.imap import results
from posthouse.servers.imap.contexts import TAG_IN_USE

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


ALL: Final = ReturnOptions(frozenset({b"ALL"}))


async def search(session: "ImapSession", command: Search) -> Completion:
    view, returns = session.selected, command.returns
    if returns is None and session.rev2:
        returns = ALL  # RFC 9051 §6.4.4: IMAP4rev2 has no other answer than ESEARCH
    wants_modseq = asks_modseq(command.query)
    if wants_modseq:
        session.enable_condstore()
    if session.contexts.has(command.tag) and returns is not None and b"UPDATE" in returns.names:
        return TAG_IN_USE
    uids: Sequence[int] = []
    try:
        if not command.is_charset_known:
            return BAD_CHARSET
        uids = await view.search(command.query)
    finally:
        # RFC 5182 §2.1: one that fails keeps nothing.
        if returns is not None and b"SAVE" in returns.names:
            view.saved = results.kept(returns, uids)
    found = uids if command.uid else [bisect_left(view.uids, uid) + 1 for uid in uids]
    # RFC 7162 §3.1.5: the highest of what was found, where anything was.
    modseq = await view.highest_modseq(uids) if wants_modseq and uids else 0
    scores = await results.scores(view, command, uids)
    if returns is None:
        words = ["SEARCH", *map(str, found), *([f"(MODSEQ {modseq})"] if modseq else [])]
        session.engine.untagged(" ".join(words).encode())
    elif response := results.esearch(command.tag, returns, found, uid=command.uid, scores=scores):
        session.engine.untagged(response + b" MODSEQ %d" % modseq if modseq else response)
    if returns is not None and b"UPDATE" in returns.names:
        session.contexts.keep(session, command, uids)
    return ok("SEARCH completed")
