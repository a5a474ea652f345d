"""Reception: from a client's MAIL FROM to a message that is safe on disk.

What a recipient means is decided at RCPT TO, and whatever can be refused is refused there. At the end of the
data everything that has a mailbox here is put into it and the rest into the queue, by one commit.

Invariants:
  1. ``finish`` returns only after the commit: a 250 that follows it is a promise.
  2. Nobody relays without permission: a recipient elsewhere needs ``Client.may_relay``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from posthouse.base.clock import Clock
from posthouse.base.errors import PosthouseError, Refused, Reply, TryLater
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account, ToHost, ToMailbox
from posthouse.journal.content import Content
from posthouse.message.address import split
from posthouse.message.blindcopies import BlindCopies
from posthouse.message.dates import format_date
from posthouse.message.envelope import Envelope, Recipient
from posthouse.message.headers import fields, header_end
from posthouse.message.tlsrequired import waives_tls
from posthouse.message.trace import received_header
from posthouse.runtime.log import new_trace_id
from posthouse.services.filtering.filtering import Filtered, Filtering, From
from posthouse.services.milters.session import MilterSession
from posthouse.services.networks import is_in
from posthouse.services.placement import Accepted, Placement, not_stored
from posthouse.services.restrictions.decision import Outcome
from posthouse.services.restrictions.facts import Facts
from posthouse.services.restrictions.lists import Restrictions
from posthouse.services.rewriting.rewriting import Handed, Rewriting
from posthouse.services.rewriting.treatment import NOTHING, Treatment
from posthouse.services.sending.allowances import Allowance, Allowances
from posthouse.store.store import Store

HEAD_BYTES = 64 * 1024
"""How much of a message is looked at for its header fields."""
MAX_HOPS = 100
"""More Received fields than this are a loop (RFC 5321 §6.3 asks for at least 100)."""
HOPS_BYTES = 1024 * 1024
"""How far they are looked for: others put much between them on each round."""

RECEIVED = re.compile(rb"^Received[ \t]*:", re.IGNORECASE | re.MULTILINE)
FIELD_OR_BLANK = re.compile(rb"[!-9;-~]+[ \t]*:|\r\n")

RELAY_DENIED = Reply(554, "5.7.1", "Relay access denied")
NOT_YOUR_ADDRESS = Reply(553, "5.7.1", "Sender address rejected: not one of this login's addresses")
TOO_MANY_HOPS = Reply(554, "5.4.6", "Too many hops: this message is going round in circles")
MAILBOX_FULL = Reply(452, "4.2.2", "The recipient's mailbox is full")
NOT_FOR_US = Reply(550, "5.1.1", "No such mailbox here")


@dataclass(slots=True)
class Client:
    """Who is talking to us, as far as reception needs to know.

    ``with_protocol`` is the word for the Received field (RFC 3848); ``tls`` the version and cipher, or empty.
    ``name``: its name where somebody trusted has told it. ``has_run_ahead``: it has sent what it may not send yet.
    ``mechanism``: how it has logged in. ``milters``: who is told of its session, where there are any.
    """

    peer: str
    helo: str = ""
    with_protocol: str = "SMTP"
    tls: str = ""
    login: str = ""
    is_submission: bool = False
    is_lmtp: bool = False
    is_trusted: bool = False
    name: str | None = None
    has_run_ahead: bool = False
    known: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """What the restrictions have found out about this client so far."""
    mechanism: str = ""
    milters: MilterSession | None = None

    @property
    def may_relay(self) -> bool:
        return bool(self.login) or self.is_trusted


@dataclass(slots=True)
class Transaction:
    """One message on its way in."""

    client: Client
    envelope: Envelope
    size_bytes: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    headers: tuple[str, ...] = ()
    """What the restrictions want in front of the message."""
    treatment: Treatment = NOTHING
    """What they want to be done with it."""
    content: Content | None = None
    blind_copies: BlindCopies | None = None
    """Takes Bcc out of what a login sends."""
    allowance: Allowance | None = None
    """What the login may still send, where that is limited."""
    trouble: OSError | None = None
    """Why the content can't be stored."""

    def close(self) -> None:
        """Throw away what has come of the message."""
        if self.content is not None:
            self.content.close()
            self.content = None


def _source(client: Client) -> From:
    return From(
        client.peer,
        client.helo,
        client.name or "",
        client.login,
        client.tls,
        client.with_protocol,
        client.may_relay,
        client.is_submission,
    )


def _obey(outcome: Outcome, transaction: Transaction) -> None:
    """Raises ``Refused`` or ``TryLater`` where the lists say so."""
    if outcome.reply is None:
        transaction.headers = tuple(dict.fromkeys((*transaction.headers, *outcome.headers)))
        transaction.treatment = transaction.treatment.and_also(outcome.treatment)
    else:
        permanent = outcome.reply.is_permanent_failure
        error = Refused(outcome.reply, outcome.reason) if permanent else TryLater(outcome.reason, outcome.reply)
        error.word = outcome.word
        raise error


class Reception:
    """Takes in mail for the mailboxes here, and for elsewhere from those who may send there."""

    def __init__(
        self,
        hostname: str,
        mynetworks: Iterable[str],
        placement: Placement,
        clock: Clock,
        temporary_dir: str,
        restrictions: Restrictions | None = None,
        allowances: Allowances | None = None,
        *,
        hide_client: bool = False,
        rewriting: Rewriting | None = None,
        filtering: Filtering | None = None,
    ) -> None:
        self.hostname = hostname
        self.placement = placement
        self.directory: Directory = placement.directory
        self.store: Store = placement.store
        self.clock = clock
        self.temporary_dir = temporary_dir
        self._restrictions = restrictions
        self._allowances = allowances
        self._hide_client = hide_client
        self._rewriting = rewriting
        self._filtering = filtering
        self._mynetworks = tuple(mynetworks)

    def is_trusted(self, peer: str) -> bool:
        """Whether this client, an IP address or ``unix``, may relay without logging in (``[smtp] mynetworks``)."""
        return is_in(peer, self._mynetworks)

    async def begin(
        self,
        client: Client,
        sender: str,
        *,
        size_bytes: int = 0,
        body: str = "7BIT",
        smtputf8: bool = False,
        ret: str = "",
        envid: str = "",
        requiretls: bool = False,
    ) -> Transaction:
        """MAIL FROM. Raises ``Refused`` when the login may not use this sender, ``TryLater`` when not so much."""
        if client.login and sender and not await self.directory.may_send_as(client.login, sender):
            raise Refused(NOT_YOUR_ADDRESS, f"{client.login} may not send as {sender}")
        tls = "REQUIRED" if requiretls else ""
        envelope = Envelope(sender, (), new_trace_id(), ret, envid, body, smtputf8, client.login, tls)
        transaction = Transaction(client, envelope, size_bytes)
        if client.login and self._allowances is not None:
            transaction.allowance = await self._allowances.begin(client.login, client.peer, size_bytes)
        if client.milters is not None:
            await client.milters.mail(transaction)
        return transaction

    async def add_recipient(
        self, transaction: Transaction, address: str, notify: frozenset[str] = frozenset(), orcpt: str = ""
    ) -> None:
        """RCPT TO. Raises ``Refused`` or ``TryLater``; otherwise the recipient is in."""
        milters = transaction.client.milters
        try:
            accepted = await self._route(transaction, address, notify, orcpt)
        except PosthouseError as error:
            if milters is not None:
                await milters.refused(transaction, address, error.reply)
            raise
        if milters is not None:
            await milters.rcpt(transaction, address, notify, orcpt)
        transaction.accepted.append(accepted)

    async def _route(self, transaction: Transaction, address: str, notify: frozenset[str], orcpt: str) -> Accepted:
        await self._check_lists(transaction, address)
        client = transaction.client
        is_changed = self._rewriting is not None and not client.is_lmtp
        canonical = await self._rewriting.recipient(address) if self._rewriting and is_changed else address
        resolution = await self.directory.resolve(canonical)
        is_relayed = resolution.relay and not (
            # A canonical address may be anywhere: it counts whether the one that was asked for is ours.
            canonical != address and await self.directory.is_hosted(split(address)[1])
        )
        if is_relayed and (client.is_lmtp or not client.may_relay):
            raise Refused(NOT_FOR_US if client.is_lmtp else RELAY_DENIED, f"{client.peer} may not relay to {address}")
        destinations = resolution.destinations
        self.placement.outlets.check(destinations)
        if len(destinations) == 1 and isinstance(destinations[0], ToMailbox):
            await self._check_room(destinations[0].account, transaction.size_bytes)
        if transaction.allowance is not None and self._allowances is not None:
            await self._allowances.recipient(transaction.allowance, address)
        # A branch of an alias that leads nowhere is the queue's: its sender gets a report, the others get the mail.
        lost = tuple(ToHost(failure.address, "smtp", "") for failure in resolution.failures)
        recipient = Recipient(canonical, address, orcpt, notify)
        return Accepted(recipient, destinations + lost)

    async def _check_lists(self, transaction: Transaction, address: str) -> None:
        """Go through the restriction lists. Raises ``Refused`` or ``TryLater``."""
        restrictions, client = self._restrictions, transaction.client
        # Programs of this host hand in by LMTP what has come through the lists already.
        if restrictions is None or restrictions.decides_nothing or client.is_lmtp:
            return
        outcome = await restrictions.recipient(self._facts(restrictions, transaction, address))
        _obey(outcome, transaction)

    async def check_data(self, transaction: Transaction) -> None:
        """DATA: go through its list, ask the milters. Raises ``Refused`` or ``TryLater``."""
        restrictions, client, accepted = self._restrictions, transaction.client, transaction.accepted
        if restrictions is not None and restrictions.has_data_list and not client.is_lmtp:
            only = accepted[0].recipient.address if len(accepted) == 1 else ""
            facts = self._facts(restrictions, transaction, only)
            facts.stage = "DATA"
            _obey(await restrictions.data(facts), transaction)
        if client.milters is not None:
            await client.milters.data(transaction)

    def _facts(self, restrictions: Restrictions, transaction: Transaction, address: str) -> Facts:
        client, envelope = transaction.client, transaction.envelope
        return Facts(
            client.peer,
            restrictions.directory,
            restrictions.resolver,
            restrictions.dns_lists,
            helo=client.helo,
            sender=envelope.sender,
            recipient=address,
            login=client.login,
            is_trusted=client.is_trusted,
            is_submission=client.is_submission,
            tls=client.tls,
            size_bytes=transaction.size_bytes,
            recipients=len(transaction.accepted),
            instance=envelope.trace_id,
            has_run_ahead=client.has_run_ahead,
            name=client.name,
            protocol=client.with_protocol,
            known=client.known,
        )

    def start_content(self, transaction: Transaction) -> None:
        """DATA: the message's bytes are about to come."""
        transaction.close()
        # The engine refuses messages with a bare CR or LF.
        transaction.content = Content(self.temporary_dir, is_paired=True)
        transaction.blind_copies = BlindCopies() if transaction.client.login else None
        transaction.trouble = None

    def add_content(self, transaction: Transaction, chunk: bytes) -> None:
        """The next bytes. On a full disk they go nowhere: ``finish`` says so, as the client sends them all anyhow."""
        assert transaction.content is not None
        if transaction.trouble is not None:
            return
        try:
            blind_copies = transaction.blind_copies
            transaction.content.write(chunk if blind_copies is None else blind_copies.feed(chunk))
        except OSError as error:
            transaction.trouble = error
            transaction.content.close()

    async def finish(self, transaction: Transaction) -> None:
        """The end of the data: durable when this returns. Raises ``Refused`` or ``TryLater``."""
        content, client, envelope = transaction.content, transaction.client, transaction.envelope
        assert content is not None
        try:
            if transaction.trouble is not None:
                raise transaction.trouble
            if transaction.blind_copies is not None:
                content.write(transaction.blind_copies.finish())
            content.finish()
        except OSError as error:
            raise not_stored(error) from error
        handed = Handed(envelope, content, transaction.accepted)
        if self._rewriting is not None and not client.is_lmtp:
            handed = await self._rewriting.finish(
                envelope, content, transaction.accepted, transaction.treatment, is_own=client.may_relay
            )
            transaction.content = content = handed.content
        head = content.head(HEAD_BYTES)
        prefix = self._trace_fields(transaction, head)
        if not envelope.tls and waives_tls(head):
            handed = replace(handed, envelope=replace(handed.envelope, tls="OPTIONAL"))
        filtered = Filtered(handed, prefix)
        if self._filtering is not None and handed.accepted and not client.is_lmtp:
            filtered = await self._filtering.finish(_source(client), handed, prefix)
            transaction.content = filtered.handed.content
        if client.milters is not None and filtered.handed.accepted:
            handed, prefix = await client.milters.finish(transaction, filtered.handed, filtered.prefix)
            filtered = replace(filtered, handed=handed, prefix=prefix)
            transaction.content = content = handed.content
        recipients = [entry.recipient.address for entry in transaction.accepted]
        if transaction.allowance is None or self._allowances is None:
            await self._place(filtered, client, recipients, filtered.handed.hold)
            return
        async with self._allowances.taking(transaction.allowance, content.size, recipients) as held:
            await self._place(filtered, client, recipients, held or filtered.handed.hold)

    async def _place(self, filtered: Filtered, client: Client, recipients: list[str], held: Reply | None) -> None:
        handed = filtered.handed
        # What is discarded has nobody to go to.
        if handed.accepted or filtered.beside:
            facts: dict[str, object] = {"recipients": recipients, "peer": client.peer, "login": client.login}
            if filtered.kept:
                facts["quarantined"] = filtered.kept
            await self.placement.place(
                handed.envelope,
                filtered.prefix,
                handed.content,
                handed.accepted,
                hold=held is not None,
                reason=held,
                beside=filtered.beside,
                junk=filtered.junk,
                **facts,
            )

    async def _check_room(self, account: Account, size_bytes: int) -> None:
        if not account.quota:
            return
        room = await self.store.quota_room(account.maildir, account.quota)
        if room is not None and (room <= 0 or room < size_bytes):
            raise TryLater(f"{account.email} is over its quota", MAILBOX_FULL)

    def _trace_fields(self, transaction: Transaction, head: bytes) -> bytes:
        """What goes in front of the message. Raises ``Refused`` when it has been through too many hands."""
        client, trace_id, now = transaction.client, transaction.envelope.trace_id, self.clock.now()
        hops = head
        if len(head) == HEAD_BYTES == header_end(head):
            assert transaction.content is not None
            hops = transaction.content.head(HOPS_BYTES)
        if len(RECEIVED.findall(hops, 0, header_end(hops))) > MAX_HOPS:
            raise Refused(TOO_MANY_HOPS, f"more than {MAX_HOPS} Received fields")
        protocol = client.with_protocol
        if transaction.envelope.smtputf8:
            protocol = f"UTF8{protocol.removeprefix('E')}"  # RFC 6531 §4.3
        is_hidden = self._hide_client and bool(client.login)
        prefix = received_header(
            hello=client.helo,
            peer=None if is_hidden else client.peer,
            hostname=self.hostname,
            protocol=protocol,
            trace_id=trace_id,
            date=now,
            recipients=[accepted.recipient.original for accepted in transaction.accepted[:2]],
            tls=client.tls,
        )
        prefix += "".join(f"{header}\r\n" for header in transaction.headers).encode("utf-8", "replace")
        if client.is_submission:
            # RFC 6409 §8: what a user's program left out is completed.
            names = {header.name.lower() for header in fields(head)}
            if b"date" not in names:
                prefix += f"Date: {format_date(now)}\r\n".encode()
            if b"message-id" not in names:
                prefix += f"Message-ID: <{trace_id}@{self.hostname}>\r\n".encode()
        # A message without any header field starts with its body: an empty line keeps the two apart.
        return prefix if FIELD_OR_BLANK.match(head) else prefix + b"\r\n"
