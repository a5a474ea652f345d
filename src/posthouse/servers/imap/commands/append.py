"""APPEND (RFC 3501 §6.3.11; APPENDUID RFC 4315 §3), of several messages (RFC 3502) and parts (RFC 4469); REPLACE.

REPLACE (RFC 8508) appends first: whatever happens in between, one of the two messages is there.
"""

from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.base.errors import PosthouseError, TryLater
from posthouse.journal.content import MEMORY_LIMIT, Content
from posthouse.protocols.imap.commands import AppendStart
from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.events import CatenateUrl, CommandEnd, Event, LiteralChunk, MessageStart
from posthouse.protocols.imap.render import Completion, no, ok, sequence_set
from posthouse.servers.imap.selection import READ_ONLY, select_messages
from posthouse.servers.imap.urls import octets_of
from posthouse.store.model import NewMessage

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SMALL_MEMORY: Final = MEMORY_LIMIT // 8
"""Octets in memory of each message but the first."""


async def append(session: "ImapSession", command: AppendStart) -> Completion | None:
    replaced = _replaced(session, command)
    # Before the client sends megabytes for nothing: is there such a mailbox?
    await session.mailboxes.check_append(command.mailbox)
    session.engine.accept_literal()
    with ExitStack() as stack:
        incoming = _Incoming(session, stack)
        incoming.begin(command.flags, command.date)
        while isinstance(event := await session.next_event(), LiteralChunk | CatenateUrl | MessageStart):
            await incoming.take(event)
        incoming.finish()
        if not isinstance(event, CommandEnd):
            return None
        if incoming.trouble is not None:
            raise incoming.trouble
        appended = await session.mailboxes.append(command.mailbox, incoming.messages)
    code = f"APPENDUID {appended.uidvalidity} {sequence_set(appended.uids).decode('ascii')}"
    if replaced is None:
        return ok("APPEND completed", code)
    # RFC 8508 §3.4: as MOVE does, before the EXPUNGE.
    session.engine.untagged(f"OK [{code}] The new message".encode())
    await session.selected.remove([replaced])
    return ok("REPLACE completed")


def _replaced(session: "ImapSession", command: AppendStart) -> int | None:
    """The UID of the message that is to go."""
    if command.replaced is None:
        return None
    view, number = session.selected, command.replaced.number
    if view.read_only or not (view.may("t") and view.may("e")):
        raise BadCommandError(READ_ONLY)
    uids = select_messages(view, ((number, number),), uid=command.replaced.uid).uids
    if not uids:
        raise BadCommandError(no("There is no such message", "NONEXISTENT"))
    return uids[0]


class _Incoming:
    """The messages as they come in. After some trouble the rest is read all the same: it is on its way."""

    def __init__(self, session: "ImapSession", stack: ExitStack) -> None:
        self.messages: list[NewMessage] = []
        self.trouble: PosthouseError | None = None
        self._session = session
        self._examine = partial(session.mailboxes.select, read_only=True)
        self._stack = stack
        self._limit = session.service.settings.imap.max_append_bytes
        self._left = 0

    def begin(self, flags: frozenset[str], date: datetime | None) -> None:
        memory = SMALL_MEMORY if self.messages else MEMORY_LIMIT
        content = Content(self._session.service.settings.path("tmp"), memory)
        self._stack.enter_context(closing(content))
        self.messages.append(NewMessage(content, flags, date))
        self._left = self._limit

    async def take(self, event: Event) -> None:
        if self.trouble is not None:
            return
        try:
            if isinstance(event, LiteralChunk):
                self._write(event.data)
            elif isinstance(event, CatenateUrl):
                async for octets in octets_of(self._examine, event.url):
                    self._write(octets)
            elif isinstance(event, MessageStart):
                self.finish()
                self.begin(event.flags, event.date)
        except PosthouseError as error:
            self.trouble = error

    def finish(self) -> None:
        """The last message is whole."""
        if self.trouble is not None:
            return
        content = self.messages[-1].content
        try:
            content.finish()
        except OSError as error:
            self.trouble = TryLater(f"no room for an appended message: {error}")
            return
        if not content.size:
            self.trouble = BadCommandError(no("A message can't be empty"))

    def _write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise BadCommandError(no(f"Messages may have {self._limit} octets", "TOOBIG"))
        try:
            self.messages[-1].content.write(data)
        except OSError as error:
            raise TryLater(f"no room for an appended message: {error}") from error
