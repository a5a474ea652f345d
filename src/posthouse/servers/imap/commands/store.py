"""STORE (RFC 3501 §6.4.6; UNCHANGEDSINCE RFC 7162 §3.1.3)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Store
from posthouse.protocols.imap.render import Completion, flag_list, ok, sequence_set
from posthouse.servers.imap.selection import READ_ONLY, select_messages
from posthouse.servers.imap.updates import Subject, by_number, by_uid
from posthouse.store.model import Stored

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def store(session: "ImapSession", command: Store) -> Completion:
    view = session.selected
    if view.read_only:
        return READ_ONLY
    selection = select_messages(view, command.ranges, uid=command.uid)
    if command.unchanged_since is not None:
        session.enable_condstore()
    stored = await view.store_unchanged(selection.uids, command.flags, command.mode, command.unchanged_since)
    session.send_new_keywords()
    numbers = selection.numbers() if stored.modified or not command.silent or session.condstore else {}
    subject = _subject(session, with_uid=command.uid or (session.condstore and session.qresync))
    if session.condstore:
        view.told(stored)
        session.engine.send(_with_modseqs(command, stored, numbers, subject))
    elif not command.silent:
        # RFC 3501 §6.4.8: responses to a UID command carry the UID.
        lines = [
            b"%bFLAGS %b)\r\n" % (subject(numbers[uid], uid), flag_list(flags)) for uid, flags, _ in stored.messages
        ]
        session.engine.send(b"".join(lines))
    if stored.modified:
        modified = stored.modified if command.uid else [numbers[uid] for uid in stored.modified]
        return ok("Some have changed in the meantime", f"MODIFIED {sequence_set(modified).decode('ascii')}")
    return ok("STORE completed")


def _subject(session: "ImapSession", *, with_uid: bool) -> Subject:
    if session.uid_only:
        return by_uid
    return by_number if with_uid else lambda number, _: b"* %d FETCH (" % number


def _with_modseqs(command: Store, stored: Stored, numbers: dict[int, int], subject: Subject) -> bytes:
    """RFC 7162 §3.1.3: the modification sequence is told even where the flags are not."""
    lines: list[bytes] = []
    for uid, flags, modseq in stored.messages:
        shown = b"FLAGS %b " % flag_list(flags) if not command.silent else b""
        lines.append(b"%b%bMODSEQ (%d))\r\n" % (subject(numbers[uid], uid), shown, modseq))
    return b"".join(lines)
