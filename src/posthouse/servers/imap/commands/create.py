"""CREATE (RFC 3501 §6.3.3), with a special use (RFC 6154 §3) and what the mailbox is known by (RFC 8474 §4.1)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Create
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.wildcards import separator_of

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def create(session: "ImapSession", command: Create) -> Completion:
    # A separator at the end only says that there will be names below: RFC 3501 §6.3.3.
    name = command.mailbox.removesuffix(separator_of(command.mailbox))
    mailbox_id = await session.mailboxes.create(name, command.special_use)
    return ok("CREATE completed", f"MAILBOXID ({mailbox_id})")
