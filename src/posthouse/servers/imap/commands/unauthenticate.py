"""UNAUTHENTICATE (RFC 8437): the same connection for another login; TLS stays."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Unauthenticate
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def unauthenticate(session: "ImapSession", _: Unauthenticate) -> Completion:
    session.log_out()
    return ok("UNAUTHENTICATE completed")
