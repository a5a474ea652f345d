"""ENABLE (RFC 5161; QRESYNC, which includes CONDSTORE, RFC 7162 §3.2.3)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Enable
from posthouse.protocols.imap.render import Completion, ok
from posthouse.servers.imap.capabilities import CONDSTORE, ENABLEABLE, QRESYNC

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def enable(session: "ImapSession", command: Enable) -> Completion:
    # What is not known is ignored, not refused: RFC 5161 §3.1.
    enabled = list(dict.fromkeys(name for name in command.capabilities if name in ENABLEABLE))
    session.engine.untagged(b" ".join([b"ENABLED", *(ENABLEABLE[name] for name in enabled)]))
    if not {CONDSTORE, QRESYNC}.isdisjoint(enabled):
        session.enable_condstore()
    session.enabled.update(enabled)
    if session.rev2 and session.view is not None:
        session.view.hide_recent()
    return ok("ENABLE completed")
