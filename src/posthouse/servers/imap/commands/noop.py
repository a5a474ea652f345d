"""NOOP and CHECK: nothing, but updates go out (RFC 3501 §6.1.2, §6.4.1)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Check, Noop
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def noop(_session: "ImapSession", _: Noop) -> Completion:
    return ok("NOOP completed")


async def check(_session: "ImapSession", _: Check) -> Completion:
    """What a command has changed is on disk before its completion, so there is nothing to check."""
    return ok("CHECK completed")
