"""The settings of single destinations of outgoing mail."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

LEVELS = ("", "none", "may", "encrypt", "verify", "dane")
NAME = re.compile(r"[^\s\"'\\A-Z]{1,255}")


@dataclass(frozen=True, slots=True)
class Destination:
    """How mail goes to one destination, a domain or a next hop as it is written in ``transport`` or ``relayhost``:
    ``[destinations."example.com"]``, ``[destinations."[mx.example.net]:26"]``."""

    tls: str = ""
    """``none``: in clear. ``may``: TLS where there is any. ``encrypt``: not without. ``verify``: with a certificate
    for the mail host's name, from one of the system's authorities. ``dane``: with TLSA records, or not at all. Empty:
    what the domain itself publishes counts."""
    connections: int = 0
    """Most simultaneous connections. 0: ``queue.connections_per_destination``."""
    messages_per_minute: int = 0
    """Most messages a minute. 0: ``queue.messages_per_minute``."""
    source_addresses: tuple[str, ...] = ()
    """Addresses of this host that connections come from, in turn. Empty: ``smtp.source_addresses``."""


AS_USUAL = Destination()


def rules_for(destination: str, destinations: Mapping[str, Destination]) -> Destination:
    """What is set for the destination of a route; a relayhost's may have a login in front (``RelayHost.route``)."""
    return destinations.get(destination.rpartition("@")[2].lower(), AS_USUAL) if destinations else AS_USUAL
