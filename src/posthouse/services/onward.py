"""Where queued mail goes on to: which courier takes an address, and the courier for mailboxes of our own.

The directory is asked at every attempt: mail in the queue follows what an operator changes. A recipient that has
a mailbox here (by now, or because its sender wants to hear of the delivery) is placed like mail that comes in.

Invariant: an address that leads to itself and to others is itself here. The others had their copies when it was
expanded; doing that again at each attempt would send them copies without end.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.directory.model import Destination, ToHost
from posthouse.directory.sqlite import Directory
from posthouse.journal.content import Content
from posthouse.mailqueue.courier import Delivered, Outcome, Route
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.address import lookup_key
from posthouse.message.envelope import Recipient
from posthouse.runtime.log import log, new_trace_id
from posthouse.services.placement import Accepted, Placement

LOCAL = Route("local", "")
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
                return Route("smtp", nexthop or self._relayhost or address.rpartition("@")[2])
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
        """All of them by one commit. Raises ``Refused``, ``TryLater``."""
        accepted: list[Accepted] = []
        for recipient in recipients:
            destinations = await _destinations(self._directory, recipient.address)
            # Its success is reported by the queue; only what travels on from here may still fail.
            onward = replace(recipient, notify=recipient.notify - {"SUCCESS"})
            accepted.append(Accepted(onward, destinations))
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
        return [Delivered(DELIVERED) for _ in recipients]


async def _destinations(directory: Directory, address: str) -> tuple[Destination, ...]:
    """Where mail for a queued recipient goes now. Raises ``Refused``, ``TryLater``."""
    resolution = await directory.resolve(address)
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
