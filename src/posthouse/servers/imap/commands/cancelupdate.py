"""CANCELUPDATE (RFC 5267 §4.3.5). One that is given up already is no error: we may have been the first to do so."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.cancelling import CancelUpdate
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def cancel_update(session: "ImapSession", command: CancelUpdate) -> Completion:
    session.contexts.cancel(command.tags)
    return ok("CANCELUPDATE completed")
