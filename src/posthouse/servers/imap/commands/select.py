"""SELECT and EXAMINE (RFC 3501 §6.3.1, §6.3.2)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Select
from posthouse.protocols.imap.render import SYSTEM_FLAGS, Completion, ok
from posthouse.store.view import View

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def select(session: "ImapSession", command: Select) -> Completion:
    # Also where the new one can't be opened, the old one is no longer selected (RFC 3501 §6.3.1).
    session.unselect()
    view = await session.mailboxes.select(command.mailbox, read_only=command.read_only)
    session.select(view)
    for line in _state_of(view):
        session.engine.untagged(line.encode("ascii", "replace"))
    name = "EXAMINE" if command.read_only else "SELECT"
    return ok(f"{name} completed", "READ-ONLY" if view.read_only else "READ-WRITE")


def _state_of(view: View) -> list[str]:
    flags = " ".join((*SYSTEM_FLAGS, *view.keywords))
    permanent = "" if view.read_only else f"{flags} \\*"
    lines = [
        f"FLAGS ({flags})",
        f"OK [PERMANENTFLAGS ({permanent})] Flags that stay",
        f"{len(view.uids)} EXISTS",
        f"{view.recent} RECENT",
        f"OK [UIDVALIDITY {view.uidvalidity}] UIDs are valid",
        f"OK [UIDNEXT {view.uidnext}] Predicted next UID",
    ]
    if view.first_unseen:
        lines.append(f"OK [UNSEEN {view.first_unseen}] First unseen message")
    return lines
