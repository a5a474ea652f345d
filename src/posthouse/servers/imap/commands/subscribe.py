"""SUBSCRIBE and UNSUBSCRIBE (RFC 3501 §6.3.6, §6.3.7)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Subscribe
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def subscribe(session: "ImapSession", command: Subscribe) -> Completion:
    if command.subscribed:
        await session.mailboxes.subscribe(command.mailbox)
        return ok("SUBSCRIBE completed")
    await session.mailboxes.unsubscribe(command.mailbox)
    return ok("UNSUBSCRIBE completed")
