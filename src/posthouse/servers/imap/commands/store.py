"""STORE (RFC 3501 §6.4.6)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Store
from posthouse.protocols.imap.render import Completion, flag_list, ok
from posthouse.servers.imap.selection import READ_ONLY, select_messages

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def store(session: "ImapSession", command: Store) -> Completion:
    view = session.selected
    if view.read_only:
        return READ_ONLY
    selection = select_messages(view, command.ranges, uid=command.uid)
    stored = await view.store_flags(selection.uids, command.flags, command.mode)
    if not command.silent:
        numbers = selection.numbers()
        # RFC 3501 §6.4.8: responses to a UID command carry the UID.
        lines = [
            b"* %d FETCH (%bFLAGS %b)\r\n" % (numbers[uid], b"UID %d " % uid * command.uid, flag_list(flags))
            for uid, flags in stored
        ]
        session.engine.send(b"".join(lines))
    return ok("STORE completed")
