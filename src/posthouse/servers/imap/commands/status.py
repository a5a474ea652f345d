"""STATUS (RFC 3501 §6.3.10; HIGHESTMODSEQ RFC 7162 §3.1.7; SIZE RFC 8438; DELETED RFC 9208; APPENDLIMIT RFC 7889).

MAILBOXID RFC 8474 §4.3.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Status
from posthouse.protocols.imap.render import Completion, ok
from posthouse.store.model import Want

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def status(session: "ImapSession", command: Status) -> Completion:
    values = await status_items(session, command.mailbox, command.items)
    session.engine.untagged(b"STATUS %b (%b)" % (session.mailbox_name(command.mailbox), values))
    return ok("STATUS completed")


async def status_items(session: "ImapSession", mailbox: str, items: Sequence[bytes]) -> bytes:
    """The items with their values, in their order. Raises NoSuchMailbox."""
    if b"HIGHESTMODSEQ" in items:
        session.enable_condstore()
    found = await session.mailboxes.status(mailbox)
    size_bytes = found.size_bytes
    if found.unsized and not {b"SIZE", b"DELETED-STORAGE"}.isdisjoint(items):
        size_bytes = await _measure(session, mailbox)
        found = await session.mailboxes.status(mailbox)
    values: dict[bytes, int | bytes] = {
        b"MESSAGES": found.messages,
        b"RECENT": found.recent,
        b"UIDNEXT": found.uidnext,
        b"UIDVALIDITY": found.uidvalidity,
        b"UNSEEN": found.unseen,
        b"HIGHESTMODSEQ": found.modseq,
        b"DELETED": found.deleted,
        b"DELETED-STORAGE": found.deleted_bytes,
        b"SIZE": size_bytes,
        b"APPENDLIMIT": session.service.settings.imap.max_append_bytes,
        b"MAILBOXID": b"(%b)" % found.guid.encode("ascii", "replace"),
    }
    return b" ".join(b"%b %b" % (item, _printed(values[item])) for item in items)


def _printed(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b"%d" % value


async def _measure(session: "ImapSession", mailbox: str) -> int:
    """RFC 8438: no less than the sum of RFC822.SIZE, which not every file's name says; it is kept once worked out."""
    view = await session.mailboxes.select(mailbox, read_only=True)
    try:
        batches = view.fetch(view.uids, Want.SIZE, lambda message: message.size)
        return sum([size async for sizes in batches for size in sizes])
    finally:
        view.close()
