"""APPEND (RFC 3501 §6.3.11; APPENDUID RFC 4315 §3)."""

from contextlib import closing
from typing import TYPE_CHECKING

from posthouse.base.errors import TryLater
from posthouse.journal.content import Content
from posthouse.protocols.imap.commands import AppendStart, CommandEnd, LiteralChunk
from posthouse.protocols.imap.render import Completion, no, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def append(session: "ImapSession", command: AppendStart) -> Completion | None:
    if not command.size:
        return no("A message can't be empty")
    # Before the client sends megabytes for nothing: is there such a mailbox?
    await session.mailboxes.status(command.mailbox)
    session.engine.accept_literal()
    with closing(Content(session.service.settings.path("tmp"))) as content:
        is_complete, trouble = await _receive(session, content)
        if not is_complete:
            return None
        if trouble is not None:
            raise TryLater(f"no room for an appended message: {trouble}")
        appended = await session.mailboxes.append(command.mailbox, content, command.flags, command.date)
    return ok("APPEND completed", f"APPENDUID {appended.uidvalidity} {appended.uid}")


async def _receive(session: "ImapSession", content: Content) -> tuple[bool, OSError | None]:
    """Take the literal. Whether the command ended as it should, and what kept us from storing it."""
    trouble = None
    while isinstance(event := await session.next_event(), LiteralChunk):
        try:
            if trouble is None:
                content.write(event.data)
        except OSError as error:
            # The rest has to be read all the same: it is on its way.
            trouble = error
    try:
        content.finish()
    except OSError as error:
        trouble = error
    return isinstance(event, CommandEnd), trouble
