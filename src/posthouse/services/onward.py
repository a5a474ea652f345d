"""Where queued mail goes on to: which courier takes an address, and the courier for mailboxes of our own.

The directory is asked at every attempt: mail in the queue follows what an operator changes. A recipient that has
a mailbox here (by now, or because its sender wants to hear of the delivery) is placed like mail that comes in.

Invariant: an address that leads to itself and to others is itself here. The others had their copies when it was
expanded; doing that again at each attempt would send them copies without end.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Destination, ToHost, ToPipe
from posthouse.journal.content import Content
from posthouse.mailqueue.courier import Delivered, Outcome, Route
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.address import lookup_key
from posthouse.message.envelope import Recipient
from posthouse.outbound.relay import SenderRelays
from posthouse.runtime.log import log, new_trace_id
from posthouse.services.delivering import Delivering, as_outcome
from posthouse.services.outlets import Outlet, Outlets, via
from posthouse.services.placement import Accepted, Placement

LOCAL = Route("local", "")
NO_SUCH_HOST = Reply(550, "5.1.2", "No mail goes to that address literal")
NOT_ANY_MORE = Reply(550, "5.1.1", "This address leads elsewhere by now")
DELIVERED = Reply(250, "2.1.5", "Delivered to the mailbox")


class Routes:
    """Which way an address goes, as the directory says now."""

    def __init__(self, directory: Directory, settings: Settings, outlets: Outlets | None = None) -> None:
        self._directory = directory
        self._relayhost = settings.smtp.relayhost
        self._sender_relays = SenderRelays(settings.relays, settings.smtp.recipient_delimiter)
        self._outlets = outlets or Outlets(settings)

    async def route(self, address: str, sender: str) -> Route:
        """Raises ``Refused`` or ``TryLater``."""
        match await _destinations(self._directory, self._outlets, address):
            case (ToHost(to, transport, nexthop),) if lookup_key(to) == lookup_key(address):
                if transport == "lmtp":
                    return Route("lmtp", nexthop)
                relay = nexthop or self._sender_relays.route(sender) or self._relayhost
                return Route("smtp", relay or _domain(address))
            case (ToPipe(_, transport, nexthop),):
                return Route("pipe", f"{transport}:{nexthop}")
            case found if any(via(each) and lookup_key(each.address) == lookup_key(address) for each in found):
                # A command that hangs holds up its own address, and nobody else's mail.
                return Route("local", lookup_key(address))
            case _:
                return LOCAL


class LocalCourier:
    """Delivers to mailboxes here, and to wherever an alias leads by now."""

    def __init__(
        self, directory: Directory, placement: Placement, temporary_dir: str, delivering: Delivering | None = None
    ) -> None:
        self._directory = directory
        self._placement = placement
        self._delivering = delivering
        self._temporary_dir = temporary_dir

    async def deliver(
        self,
        message: QueuedMessage,
        recipients: Sequence[Recipient],
        destination: str,  # noqa: ARG002
    ) -> list[Outcome]:
        """What goes into mailboxes or on from here, by one commit; the rest one by one. Raises ``TryLater``."""
        outcomes: list[Outcome] = [Delivered(DELIVERED)] * len(recipients)
        accepted: list[Accepted] = []
        into: dict[int, Outlet] = {}
        for place, recipient in enumerate(recipients):
            # One that was removed since it was routed is no reason to return the others' mail.
            try:
                found = await _destinations(self._directory, self._placement.outlets, recipient.address)
                destinations = _chosen(found, recipient, message)
            except (Refused, TryLater) as error:
                outcomes[place] = as_outcome(error)
                continue
            if recipient.via and len(destinations) == 1 and via(destinations[0]) == recipient.via:
                into[place] = cast("Outlet", destinations[0])
                continue
            # Its success is reported by the queue; only what travels on from here may still fail.
            onward = replace(recipient, notify=recipient.notify - {"SUCCESS"})
            accepted.append(Accepted(onward, destinations))
        if accepted:
            await self._place(message, recipients, accepted)
        done = await asyncio.gather(*(self._into(message, recipients[place], into[place]) for place in into))
        for place, outcome in zip(into, done, strict=True):
            outcomes[place] = outcome
        return outcomes

    async def _into(self, message: QueuedMessage, recipient: Recipient, outlet: Outlet) -> Outcome:
        assert self._delivering is not None, "the queue's process has it"
        try:
            return await self._delivering.into_outlet(message, recipient, outlet)
        except (Refused, TryLater) as error:
            log.warning("not-delivered", trace=message.id, recipient=recipient.address, reason=error.reason)
            return as_outcome(error)

    async def _place(
        self, message: QueuedMessage, recipients: Sequence[Recipient], accepted: Sequence[Accepted]
    ) -> None:
        # What goes on to other hosts is a message of its own in the queue, with a name of its own.
        envelope = replace(message.envelope, trace_id=new_trace_id())
        log.info("placing", trace=message.id, onward=envelope.trace_id, recipients=[r.address for r in recipients])
        content = Content(self._temporary_dir)
        try:
            await asyncio.to_thread(_read, message, content)
            await self._placement.place(envelope, b"", content, accepted)
        except OSError as error:
            raise TryLater(f"cannot read the queued message: {error}") from error
        finally:
            content.close()


def _domain(address: str) -> str:
    """Where an address says itself that it goes. Raises ``Refused`` for an address literal of this very machine.

    An operator may route to 127.0.0.1; a user who writes to ``x@[127.0.0.1]`` must not reach what listens there.
    """
    domain = address.rpartition("@")[2]
    if domain.startswith("["):
        try:
            ip = ip_address(domain[1:-1].lower().removeprefix("ipv6:"))
        except ValueError:
            return domain  # the courier says what is wrong with it
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_loopback or ip.is_unspecified or ip.is_multicast:
            raise Refused(NO_SUCH_HOST, f"{address} would lead back to this machine")
    return domain


async def _destinations(directory: Directory, outlets: Outlets, address: str) -> tuple[Destination, ...]:
    """Where mail for a queued recipient goes now. Raises ``Refused``, ``TryLater``."""
    resolution = await directory.resolve(address)
    outlets.check(resolution.destinations)
    key = lookup_key(address)
    if own := tuple(found for found in resolution.destinations if lookup_key(found.address) == key):
        return own
    for failure in resolution.failures:
        if lookup_key(failure.address) == key:
            raise Refused(failure.reply, failure.reason)
    lost = tuple(ToHost(failure.address, "smtp", "") for failure in resolution.failures)
    return resolution.destinations + lost


def _chosen(
    destinations: tuple[Destination, ...], recipient: Recipient, message: QueuedMessage
) -> tuple[Destination, ...]:
    """Those of an address's destinations that this recipient is for. Raises ``Refused`` where there is none any more.

    An alias may be another by now: what it has got since is for whoever was for what it has lost.
    """
    key = lookup_key(recipient.address)
    own = tuple(found for found in destinations if lookup_key(found.address) == key)
    if not own:
        return destinations
    if exactly := tuple(found for found in own if via(found) == recipient.via):
        return exactly
    taken = {each.via for each in message.envelope.recipients if lookup_key(each.address) == key}
    if new := tuple(found for found in own if via(found) not in taken):
        return new
    raise Refused(NOT_ANY_MORE, f"{recipient.address} does not lead to {recipient.via} any more")


def _read(message: QueuedMessage, content: Content) -> None:
    with message.open() as file:
        while chunk := file.read(262_144):
            content.write(chunk)
    content.finish()
