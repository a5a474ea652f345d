"""RENAME (RFC 3501 §6.3.5); what is selected under the old name is no longer."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Rename
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.wildcards import separator_of

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def rename(session: "ImapSession", command: Rename) -> Completion:
    await session.mailboxes.rename(command.old, command.new.removesuffix(separator_of(command.new)))
    view, separator = session.view, separator_of(command.old)
    if view is not None and f"{view.name}{separator}".startswith(command.old + separator) and view.name != "INBOX":
        session.leave()
    return ok("RENAME completed")
