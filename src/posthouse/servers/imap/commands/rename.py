"""RENAME (RFC 3501 §6.3.5)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Rename
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.wildcards import separator_of

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def rename(session: "ImapSession", command: Rename) -> Completion:
    await session.mailboxes.rename(command.old, command.new.removesuffix(separator_of(command.new)))
    return ok("RENAME completed")
