"""NAMESPACE (RFC 2342): one personal name space without a prefix."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Namespace
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.wildcards import SEPARATOR

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def namespace(session: "ImapSession", _: Namespace) -> Completion:
    session.engine.untagged(f'NAMESPACE (("" "{SEPARATOR}")) NIL NIL'.encode())
    return ok("NAMESPACE completed")
