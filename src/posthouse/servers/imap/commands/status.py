"""STATUS (RFC 3501 §6.3.10; HIGHESTMODSEQ RFC 7162 §3.1.7)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap import render
from posthouse.protocols.imap.commands import Status
from posthouse.protocols.imap.render import Completion, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def status(session: "ImapSession", command: Status) -> Completion:
    if b"HIGHESTMODSEQ" in command.items:
        session.enable_condstore()
    found = await session.mailboxes.status(command.mailbox)
    values = {
        b"MESSAGES": found.messages,
        b"RECENT": found.recent,
        b"UIDNEXT": found.uidnext,
        b"UIDVALIDITY": found.uidvalidity,
        b"UNSEEN": found.unseen,
        b"HIGHESTMODSEQ": found.modseq,
    }
    items = b" ".join(b"%b %d" % (item, values[item]) for item in command.items)
    session.engine.untagged(b"STATUS %b (%b)" % (render.mailbox(command.mailbox), items))
    return ok("STATUS completed")
