"""COPY (RFC 3501 §6.4.7) and MOVE (RFC 6851), with COPYUID (RFC 4315 §3)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Copy, Move
from posthouse.protocols.imap.render import Completion, ok, sequence_set
from posthouse.servers.imap.selection import READ_ONLY, select_messages
from posthouse.store.model import Copied

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def copy(session: "ImapSession", command: Copy) -> Completion:
    view = session.selected
    selection = select_messages(view, command.ranges, uid=command.uid)
    if not selection.uids:
        return ok("No messages to copy")
    copied = await session.mailboxes.copy(view, selection.uids, command.mailbox)
    return ok("COPY completed", _copyuid(copied))


async def move(session: "ImapSession", command: Move) -> Completion:
    """RFC 6851 §4.3: COPYUID comes in an untagged OK, before the EXPUNGEs."""
    view = session.selected
    if view.read_only:
        return READ_ONLY
    selection = select_messages(view, command.ranges, uid=command.uid)
    if not selection.uids:
        return ok("No messages to move")
    moved = await session.mailboxes.copy(view, selection.uids, command.mailbox, move=True)
    code = _copyuid(moved)
    if code:
        session.engine.untagged(f"OK [{code}] Moved".encode())
    return ok("MOVE completed")


def _copyuid(copied: Copied) -> str:
    if not copied.source_uids:
        return ""
    sources, targets = sequence_set(copied.source_uids), sequence_set(copied.target_uids)
    return f"COPYUID {copied.uidvalidity} {sources.decode()} {targets.decode()}"
