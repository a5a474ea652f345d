"""EXPUNGE (RFC 3501 §6.4.3) and UID EXPUNGE (RFC 4315 §2.1); the responses come with the updates."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Expunge
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.sequence import uid_slices
from posthouse.servers.imap.selection import READ_ONLY

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def expunge(session: "ImapSession", command: Expunge) -> Completion:
    view = session.selected
    if view.read_only:
        return READ_ONLY
    uids = None
    if command.uids is not None:
        uids = [uid for part in uid_slices(command.uids, view.uids) for uid in view.uids[part]]
    await view.expunge(uids)
    return ok("EXPUNGE completed")
