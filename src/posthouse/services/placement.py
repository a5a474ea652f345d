"""Placement: one message into mailboxes and queue by one commit.

Used by whatever takes responsibility for a message: reception, reports of our own, and the queue for a recipient
that has a mailbox here by now.

Invariants:
  1. When ``place`` returns, the message is durable and in place for every recipient; when it raises, for none.
  2. A mailbox gets one copy, however many recipients lead to it.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace

from posthouse.base.clock import Clock
from posthouse.base.errors import TEMPORARY_FAILURE, Refused, Reply, TryLater
from posthouse.directory.directory import Directory
from posthouse.directory.model import Destination, Discard, ToHost, ToMailbox
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.journal.operations import Put
from posthouse.journal.placing import NO_LINK
from posthouse.mailqueue.spool import Spool
from posthouse.message.envelope import Envelope, Recipient
from posthouse.message.trace import delivered_to, return_path
from posthouse.runtime.log import log
from posthouse.store.store import Store

NO_SPACE = Reply(452, "4.3.1", "Not enough storage here at the moment, please try again later")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that somebody was promised, and where it goes."""

    recipient: Recipient
    destinations: tuple[Destination, ...]


class Placement:
    """Puts messages where they belong, through this process's journal."""

    def __init__(self, directory: Directory, store: Store, spool: Spool, journal: Journal, clock: Clock) -> None:
        self.directory = directory
        self.store = store
        self.spool = spool
        self.journal = journal
        self.clock = clock

    async def place(
        self, envelope: Envelope, prefix: bytes, content: Content, accepted: Sequence[Accepted], **facts: object
    ) -> None:
        """Put ``prefix`` and ``content`` where ``accepted`` says; ``envelope.recipients`` is not looked at.

        ``facts`` go into the message's line in the log. Raises ``TryLater`` when the disk is full or doesn't let us.
        """
        mailboxes, queued = _sort(accepted)
        onward = replace(envelope, recipients=queued) if queued or envelope.recipients else envelope
        await self._commit(onward, prefix, content, mailboxes)
        log.info(
            "accepted",
            trace=envelope.trace_id,
            sender=envelope.sender,
            size=content.size,
            mailboxes=[mailbox.account.email for mailbox in mailboxes],
            queued=[recipient.address for recipient in queued],
            **facts,
        )

    async def submit(self, envelope: Envelope, data: bytes) -> None:
        """Place a message of our own making, such as a report. Raises ``TryLater``.

        A recipient that can't be resolved goes to the queue, whose business failure is.
        """
        accepted: list[Accepted] = []
        for recipient in envelope.recipients:
            try:
                destinations = (await self.directory.resolve(recipient.address)).destinations
            except (Refused, TryLater):
                destinations = (ToHost(recipient.address, "smtp", ""),)
            accepted.append(Accepted(recipient, destinations))
        await self.place(envelope, b"", Content.of(data), accepted)

    async def _commit(
        self, envelope: Envelope, prefix: bytes, content: Content, mailboxes: Sequence[ToMailbox]
    ) -> None:
        """All of it, or ``TryLater``. What can be mended is, and tried once more."""
        is_linked, has_looked_again = len(mailboxes) > 1, False
        while True:
            try:
                await self.journal.commit(content, await self._plan(envelope, prefix, content, mailboxes, is_linked))
                return
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not has_looked_again:
                    # Somebody removed a Maildir since it was last seen.
                    has_looked_again = True
                    for mailbox in mailboxes:
                        self.store.forget(mailbox.account.maildir)
                elif error.errno in NO_LINK and is_linked:
                    is_linked = False
                else:
                    raise not_stored(error) from error

    async def _plan(
        self,
        envelope: Envelope,
        prefix: bytes,
        content: Content,
        mailboxes: Sequence[ToMailbox],
        is_linked: bool,
    ) -> list[Put]:
        puts = await self._plan_mailboxes(envelope, prefix, content, mailboxes) if mailboxes else []
        if is_linked:
            puts = [replace(puts[0], links=tuple(put.path for put in puts[1:]))]
        if envelope.recipients:
            puts.append(
                self.spool.plan(envelope, header_prefix=prefix, now=self.clock.now(), content_size=content.size)
            )
        return puts

    async def _plan_mailboxes(
        self, envelope: Envelope, prefix: bytes, content: Content, mailboxes: Sequence[ToMailbox]
    ) -> list[Put]:
        front = return_path(envelope.sender)
        if len(mailboxes) == 1:
            # With hard links there is one file for all, which must not tell one recipient of another.
            front += delivered_to(mailboxes[0].address)
        front += prefix
        return [await self.store.plan_delivery(box.account.maildir, content, front) for box in mailboxes]


def not_stored(error: OSError) -> TryLater:
    """What a client is told when the disk did not take its message."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return TryLater(f"cannot store the message: {error}", NO_SPACE if full else TEMPORARY_FAILURE)


def _sort(accepted: Sequence[Accepted]) -> tuple[list[ToMailbox], tuple[Recipient, ...]]:
    """The mailboxes, each once, and the recipients for the queue, each address once.

    A sender who wants to hear of the delivery (RFC 3461 §5.2.1) gets the report from the queue.
    """
    mailboxes: dict[str, ToMailbox] = {}
    queued: dict[str, Recipient] = {}
    for entry in accepted:
        for destination in entry.destinations:
            match destination:
                case ToMailbox(_, account) if "SUCCESS" not in entry.recipient.notify:
                    mailboxes.setdefault(account.email, destination)
                case ToHost(address) | ToMailbox(address):
                    original = entry.recipient.original or entry.recipient.address
                    queued.setdefault(address, replace(entry.recipient, address=address, original=original))
                case Discard():
                    pass
    return list(mailboxes.values()), tuple(queued.values())
