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

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.directory.directory import Directory
from posthouse.directory.model import Destination, ToHost
from posthouse.journal.content import Content
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Outcome, Route
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.address import lookup_key
from posthouse.message.envelope import Recipient
from posthouse.runtime.log import log, new_trace_id
from posthouse.services.placement import Accepted, Placement, check_deliverable

LOCAL = Route("local", "")
NO_SUCH_HOST = Reply(550, "5.1.2", "No mail goes to that address literal")
DELIVERED = Reply(250, "2.1.5", "Delivered to the mailbox")


class Routes:
    """Which way an address goes, as the directory says now."""

    def __init__(self, directory: Directory, relayhost: str) -> None:
        self._directory = directory
        self._relayhost = relayhost

    async def route(self, address: str) -> Route:
        """Raises ``Refused`` or ``TryLater``."""
        match await _destinations(self._directory, address):
            case (ToHost(to, transport, nexthop),) if lookup_key(to) == lookup_key(address):
                if transport == "lmtp":
                    return Route("lmtp", nexthop)
                return Route("smtp", nexthop or self._relayhost or _domain(address))
            case _:
                return LOCAL


class LocalCourier:
    """Delivers to mailboxes here, and to wherever an alias leads by now."""

    def __init__(self, directory: Directory, placement: Placement, temporary_dir: str) -> None:
        self._directory = directory
        self._placement = placement
        self._temporary_dir = temporary_dir

    async def deliver(
        self,
        message: QueuedMessage,
        recipients: Sequence[Recipient],
        destination: str,  # noqa: ARG002
    ) -> list[Outcome]:
        """All that still lead somewhere, by one commit. Raises ``TryLater``."""
        accepted: list[Accepted] = []
        outcomes: list[Outcome] = []
        for recipient in recipients:
            # One that was removed since it was routed is no reason to return the others' mail.
            try:
                destinations = await _destinations(self._directory, recipient.address)
            except Refused as error:
                outcomes.append(Failed(error.reply))
                continue
            except TryLater as error:
                outcomes.append(Deferred(error.reply))
                continue
            outcomes.append(Delivered(DELIVERED))
            # Its success is reported by the queue; only what travels on from here may still fail.
            onward = replace(recipient, notify=recipient.notify - {"SUCCESS"})
            accepted.append(Accepted(onward, destinations))
        if not accepted:
            return outcomes
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
        return outcomes


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


async def _destinations(directory: Directory, address: str) -> tuple[Destination, ...]:
    """Where mail for a queued recipient goes now. Raises ``Refused``, ``TryLater``."""
    resolution = await directory.resolve(address)
    check_deliverable(resolution.destinations)
    key = lookup_key(address)
    for destination in resolution.destinations:
        if lookup_key(destination.address) == key:
            return (destination,)
    for failure in resolution.failures:
        if lookup_key(failure.address) == key:
            raise Refused(failure.reply, failure.reason)
    lost = tuple(ToHost(failure.address, "smtp", "") for failure in resolution.failures)
    return resolution.destinations + lost


def _read(message: QueuedMessage, content: Content) -> None:
    with message.open() as file:
        while chunk := file.read(262_144):
            content.write(chunk)
    content.finish()
