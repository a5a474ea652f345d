"""CLOSE (RFC 3501 §6.4.2) and UNSELECT (RFC 3691)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Close
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def close(session: "ImapSession", command: Close) -> Completion:
    view = session.selected
    if command.expunge and not view.read_only and view.may("e"):  # RFC 4314 §4
        await view.expunge()
    session.unselect()
    return ok("CLOSE completed" if command.expunge else "UNSELECT completed")
