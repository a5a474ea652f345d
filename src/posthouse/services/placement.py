"""Placement: one message into mailboxes and queue by one commit.

Used by whatever takes responsibility for a message: reception, reports of our own, and the queue for a recipient
that has a mailbox here by now.

Invariants:
  1. When ``place`` returns, the message is durable and in place for every recipient; when it raises, for none.
  2. A mailbox gets one copy, however many recipients lead to it.
  3. What a list's members get comes from the list's owner, but what comes from nobody (a report) goes on doing so:
     nothing is ever returned that was a return itself (RFC 5321 §4.5.5).
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace

from posthouse.base.clock import Clock
from posthouse.base.errors import TEMPORARY_FAILURE, Refused, Reply, TryLater
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import (
    Destination,
    Discard,
    ToHost,
    ToMailbox,
)
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.journal.operations import Put
from posthouse.journal.placing import NO_LINK
from posthouse.mailqueue.spool import Spool
from posthouse.message.envelope import Envelope, Recipient
from posthouse.message.trace import delivered_to, return_path
from posthouse.runtime.log import log, new_trace_id
from posthouse.services.outlets import Outlets, is_outlet, via
from posthouse.store.store import Store

INBOX, JUNK = "INBOX", "Junk"
NO_SPACE = Reply(452, "4.3.1", "Not enough storage here at the moment, please try again later")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that somebody was promised, and where it goes."""

    recipient: Recipient
    destinations: tuple[Destination, ...]


class Placement:
    """Puts messages where they belong, through this process's journal."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        spool: Spool,
        journal: Journal,
        clock: Clock,
        outlets: Outlets | None = None,
    ) -> None:
        self.directory = directory
        self.store = store
        self.spool = spool
        self.journal = journal
        self.clock = clock
        self.outlets = outlets or Outlets(Settings())

    async def place(
        self,
        envelope: Envelope,
        prefix: bytes,
        content: Content,
        accepted: Sequence[Accepted],
        *,
        hold: bool = False,
        reason: Reply | None = None,
        beside: Sequence[Put] = (),
        junk: frozenset[str] = frozenset(),
        **facts: object,
    ) -> None:
        """Put ``prefix`` and ``content`` where ``accepted`` says; ``envelope.recipients`` is not looked at.

        With ``hold`` all of it waits in the queue until the operator releases it, what is for mailboxes here too; he
        is shown the ``reason``. ``beside`` is what the same commit puts elsewhere; ``junk``: the accounts that get it
        into Junk. ``facts`` go into the message's line in the log. Raises ``TryLater`` when the disk is full or
        doesn't let us.
        """
        mailboxes, queued = _sort(accepted, may_change_sender=bool(envelope.sender), hold=hold)
        onward = [_onward(envelope, owner, recipients) for owner, recipients in queued.items()]
        boxes = [(box, JUNK if box.account.email in junk else INBOX) for box in mailboxes]
        await self._commit(envelope, onward, prefix, content, boxes, beside, hold=hold, reason=reason)
        log.info(
            "held" if hold else "accepted",
            trace=envelope.trace_id,
            sender=envelope.sender,
            size=content.size,
            mailboxes=[mailbox.account.email for mailbox in mailboxes],
            queued=[recipient.address for recipients in queued.values() for recipient in recipients],
            **facts,
        )
        for sent in onward:
            if sent.trace_id != envelope.trace_id:
                log.info("list", trace=envelope.trace_id, onward=sent.trace_id, owner=sent.sender)

    async def submit(self, envelope: Envelope, data: bytes) -> None:
        """Place a message of our own making, such as a report. Raises ``TryLater``.

        A recipient that can't be resolved goes to the queue, whose business failure is.
        """
        await self.place(envelope, b"", Content.of(data), await self.resolve_own(envelope.recipients))

    async def resolve_own(self, recipients: Sequence[Recipient]) -> list[Accepted]:
        """Where mail goes that we send ourselves: whoever can't be resolved is the queue's."""
        accepted: list[Accepted] = []
        for recipient in recipients:
            try:
                destinations = (await self.directory.resolve(recipient.address)).destinations
                self.outlets.check(destinations)
            except (Refused, TryLater):
                destinations = (ToHost(recipient.address, "smtp", ""),)
            accepted.append(Accepted(recipient, destinations))
        return accepted

    async def _commit(
        self,
        envelope: Envelope,
        onward: Sequence[Envelope],
        prefix: bytes,
        content: Content,
        mailboxes: Sequence[tuple[ToMailbox, str]],
        beside: Sequence[Put],
        *,
        hold: bool,
        reason: Reply | None,
    ) -> None:
        """All of it, or ``TryLater``. What can be mended is, and tried once more."""
        is_linked, has_looked_again = len(mailboxes) > 1, False
        while True:
            try:
                puts = await self._plan_mailboxes(envelope, prefix, content, mailboxes, is_linked)
                now, size = self.clock.now(), content.size
                puts += [
                    self.spool.plan(sent, header_prefix=prefix, now=now, content_size=size, hold=hold, reason=reason)
                    for sent in onward
                ]
                await self.journal.commit(content, [*puts, *beside])
                return
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not has_looked_again:
                    # Somebody removed a Maildir since it was last seen.
                    has_looked_again = True
                    for mailbox, _ in mailboxes:
                        self.store.forget(mailbox.account.maildir)
                elif error.errno in NO_LINK and is_linked:
                    is_linked = False
                else:
                    raise not_stored(error) from error

    async def _plan_mailboxes(
        self,
        envelope: Envelope,
        prefix: bytes,
        content: Content,
        mailboxes: Sequence[tuple[ToMailbox, str]],
        is_linked: bool,
    ) -> list[Put]:
        """``mailboxes``: each with the folder that the message goes into."""
        puts: list[Put] = []
        for owner in dict.fromkeys(box.owner for box, _ in mailboxes):
            boxes = [(box, folder) for box, folder in mailboxes if box.owner == owner]
            front = return_path(owner or envelope.sender)
            if len(mailboxes) == 1:
                # With hard links there is one file for all, which must not tell one recipient of another.
                front += delivered_to(boxes[0][0].address)
            front += prefix
            files = [
                await self.store.plan_delivery(box.account.maildir, content, front, folder=folder)
                for box, folder in boxes
            ]
            if is_linked and len(files) > 1:
                files = [replace(files[0], links=tuple(put.path for put in files[1:]))]
            puts += files
        return puts


def not_stored(error: OSError) -> TryLater:
    """What a client is told when the disk did not take its message."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return TryLater(f"cannot store the message: {error}", NO_SPACE if full else TEMPORARY_FAILURE)


def _sort(
    accepted: Sequence[Accepted], *, may_change_sender: bool, hold: bool
) -> tuple[list[ToMailbox], dict[str, tuple[Recipient, ...]]]:
    """The mailboxes, each once, and the recipients for the queue by the owner of their list: each address once, but
    once for each file and command that a local alias leads to.

    A sender who wants to hear of the delivery (RFC 3461 §5.2.1) gets the report from the queue. What reaches the
    members of a list that has an owner is the owner's business.
    """
    mailboxes: dict[str, ToMailbox] = {}
    queued: dict[tuple[str, str], tuple[str, Recipient]] = {}
    for entry in accepted:
        for destination in entry.destinations:
            match destination:
                case ToMailbox(_, account, owner) if not (hold or is_outlet(destination)) and (
                    "SUCCESS" not in entry.recipient.notify or owner
                ):
                    kept = destination if may_change_sender or not owner else replace(destination, owner="")
                    mailboxes.setdefault(account.email, kept)
                case Discard():
                    pass
                case _ if destination.owner and may_change_sender:
                    address, which = destination.address, via(destination)
                    queued.setdefault((address, which), (destination.owner, Recipient(address, address, via=which)))
                case _:
                    address, which = destination.address, via(destination)
                    original = entry.recipient.original or entry.recipient.address
                    onward = replace(entry.recipient, address=address, original=original, via=which)
                    queued.setdefault((address, which), ("", onward))
    groups: dict[str, tuple[Recipient, ...]] = {}
    for owner, recipient in queued.values():
        groups[owner] = (*groups.get(owner, ()), recipient)
    return list(mailboxes.values()), groups


def _onward(envelope: Envelope, owner: str, recipients: tuple[Recipient, ...]) -> Envelope:
    """The envelope of what goes to the queue; a list's is a message of its own there."""
    if not owner:
        return replace(envelope, recipients=recipients)
    return replace(envelope, sender=owner, recipients=recipients, trace_id=new_trace_id(), envid="")
