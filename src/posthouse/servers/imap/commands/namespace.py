"""NAMESPACE (RFC 2342): one personal name space without a prefix, and one of other users."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Namespace
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.wildcards import SEPARATOR, SHARED, SHARED_SEPARATOR

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def namespace(session: "ImapSession", _: Namespace) -> Completion:
    others = f'(("{SHARED}{SHARED_SEPARATOR}" "{SHARED_SEPARATOR}"))'
    session.engine.untagged(f'NAMESPACE (("" "{SEPARATOR}")) {others} NIL'.encode())
    return ok("NAMESPACE completed")
