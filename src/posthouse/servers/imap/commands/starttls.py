"""STARTTLS (RFC 3501 §6.2.1)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import StartTls
from posthouse.protocols.imap.render import Completion, bad, no, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def starttls(session: "ImapSession", _: StartTls) -> Completion | None:
    connection, engine, tls = session.connection, session.engine, session.service.tls
    if connection.is_tls:
        return bad("TLS is active already")
    if tls is None:
        return no("TLS is not available", "CANNOT")
    connection.pause()
    engine.complete(ok("Begin TLS negotiation now"))
    connection.write(engine.data_to_send())
    await connection.start_tls(tls)
    session.tls_has_begun()
    return None
