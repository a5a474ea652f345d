"""UNAUTHENTICATE (RFC 8437): the same connection for another login; TLS stays, compression ends (§4.1)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Unauthenticate
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def unauthenticate(session: "ImapSession", _: Unauthenticate) -> Completion | None:
    session.log_out()
    completion = ok("UNAUTHENTICATE completed")
    if not session.wire.is_compressed:
        return completion
    session.engine.complete(completion)
    await session.flush()
    if behind := session.wire.stop_compressing():
        session.engine.receive(behind)
    return None
