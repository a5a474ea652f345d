"""CLOSE (RFC 3501 §6.4.2) and UNSELECT (RFC 3691)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Close
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def close(session: "ImapSession", command: Close) -> Completion:
    if command.expunge and not session.selected.read_only:
        await session.selected.expunge()
    session.unselect()
    return ok("CLOSE completed" if command.expunge else "UNSELECT completed")
