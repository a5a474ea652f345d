"""SELECT and EXAMINE (RFC 3501 §6.3.1, §6.3.2; QRESYNC and CLOSED RFC 7162 §3.2.5, §3.2.11; RFC 8474 §4.2)."""

from typing import TYPE_CHECKING, Final

from posthouse.protocols.imap.commands import Resync, Select
from posthouse.protocols.imap.render import Completion, bad, ok, range_set
from posthouse.protocols.imap.wildcards import is_shared, separator_of
from posthouse.servers.imap.capabilities import CONDSTORE
from posthouse.servers.imap.updates import by_number, by_uid, changed_lines, flag_lines
from posthouse.store.view import View

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

BATCH_LINES: Final = 1000


async def select(session: "ImapSession", command: Select) -> Completion:
    if command.resync is not None and not session.qresync:
        return bad("QRESYNC has to be enabled first")
    # Also where the new one can't be opened, the old one is no longer selected (RFC 3501 §6.3.1).
    if session.view is not None:
        session.leave()
    if command.condstore:
        session.enabled.add(CONDSTORE)
    view = await session.mailboxes.select(command.mailbox, read_only=command.read_only)
    session.select(view)
    if session.rev2:
        # RFC 9051 §6.3.2: what the mailbox is called.
        session.engine.untagged(
            b'LIST () "%b" %b' % (separator_of(view.name).encode(), session.mailbox_name(view.name))
        )
    for line in _state_of(view, rev2=session.rev2, uid_only=session.uid_only):
        session.engine.untagged(line.encode("ascii", "replace"))
    if command.resync is not None and command.resync.uidvalidity == view.uidvalidity:
        await _resynchronise(session, view, command.resync)
    name = "EXAMINE" if command.read_only else "SELECT"
    return ok(f"{name} completed", "READ-ONLY" if view.read_only else "READ-WRITE")


async def _resynchronise(session: "ImapSession", view: View, resync: Resync) -> None:
    """What the client missed (RFC 7162 §3.2.5)."""
    missed = await view.missed(resync.modseq, resync.uids)
    if missed.vanished:
        session.engine.untagged(b"VANISHED (EARLIER) " + range_set(missed.vanished))
    subject = by_uid if session.uid_only else by_number
    for at in range(0, len(missed.changed), BATCH_LINES):
        batch = missed.changed[at : at + BATCH_LINES]
        # What the view doesn't know yet is told later, with its own.
        modseqs = [min(modseq, view.known_modseq) for _, modseq in batch]
        session.engine.send(b"".join(changed_lines(view.flags([uid for uid, _ in batch]), modseqs, subject)))
        await session.flush()


def _state_of(view: View, *, rev2: bool, uid_only: bool) -> list[str]:
    """IMAP4rev2 has neither RECENT nor UNSEEN (RFC 9051 appendix E); UNSEEN is a sequence number (RFC 9586 §3.6)."""
    lines = [
        *flag_lines(view),
        f"{len(view.uids)} EXISTS",
        *([] if rev2 else [f"{view.recent} RECENT"]),
        f"OK [UIDVALIDITY {view.uidvalidity}] UIDs are valid",
        f"OK [UIDNEXT {view.uidnext}] Predicted next UID",
        f"OK [HIGHESTMODSEQ {view.modseq}] Highest",
        f"OK [MAILBOXID ({view.guid})] What it is known by",
    ]
    if not is_shared(view.name):  # RFC 4467 §8
        lines.append("OK [URLMECH INTERNAL] URLs that others may use")
    if view.first_unseen and not (rev2 or uid_only):
        lines.append(f"OK [UNSEEN {view.first_unseen}] First unseen message")
    return lines
