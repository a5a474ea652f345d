"""EXPUNGE (RFC 3501 §6.4.3) and UID EXPUNGE (RFC 4315 §2.1); the responses come with the updates."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Expunge
from posthouse.protocols.imap.render import Completion, ok
from posthouse.servers.imap.selection import READ_ONLY, select_messages

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def expunge(session: "ImapSession", command: Expunge) -> Completion:
    view = session.selected
    if view.read_only:
        return READ_ONLY
    uids = None
    if command.uids is not None:
        uids = select_messages(view, command.uids, uid=True).uids
    await view.expunge(uids)
    return ok("EXPUNGE completed")
