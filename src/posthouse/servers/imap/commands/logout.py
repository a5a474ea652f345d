"""LOGOUT (RFC 3501 §6.1.3)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Logout
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def logout(session: "ImapSession", _: Logout) -> Completion:
    session.unselect()
    session.engine.bye("Logging out")
    return ok("LOGOUT completed")
