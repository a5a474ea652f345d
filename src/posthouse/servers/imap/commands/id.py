"""ID (RFC 2971): who we are; who the client is goes to the log."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Id
from posthouse.protocols.imap.render import Completion, ok
from posthouse.runtime.log import log

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def identify(session: "ImapSession", command: Id) -> Completion:
    said = {name[:30]: (value or b"")[:1024] for name, value in command.fields}
    log.debug("imap-client", login=session.login, peer=session.connection.peer, id=said)
    # The version is nobody's business but the operator's.
    session.engine.untagged(b'ID ("name" "Posthouse")')
    return ok("ID completed")
