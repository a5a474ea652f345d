"""CAPABILITY (RFC 3501 §6.1.1)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Capability
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def capability(session: "ImapSession", _: Capability) -> Completion:
    session.engine.untagged(f"CAPABILITY {session.capability()}".encode())
    return ok("CAPABILITY completed")
