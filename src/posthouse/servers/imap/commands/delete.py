"""DELETE (RFC 3501 §6.3.4)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Delete
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def delete(session: "ImapSession", command: Delete) -> Completion:
    if session.view is not None and session.view.name == command.mailbox != "INBOX":
        # Nobody can sit on the branch that is being sawn off.
        session.leave()
    await session.mailboxes.delete(command.mailbox)
    return ok("DELETE completed")
