"""COMPRESS (RFC 4978): from the end of its completion on, both sides send a deflate stream."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Compress
from posthouse.protocols.imap.render import Completion, no, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def compress(session: "ImapSession", _: Compress) -> Completion | None:
    if session.wire.is_compressed:
        return no("The connection is compressed already", "COMPRESSIONACTIVE")
    session.engine.complete(ok("DEFLATE is active"))
    await session.flush()
    session.engine.start_layer()
    session.wire.compress()
    return None
