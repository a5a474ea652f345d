"""The client's name, as milters are told."""

import ipaddress
from typing import TYPE_CHECKING

from posthouse.services.restrictions.facts import UNKNOWN, Facts
from posthouse.services.restrictions.lists import Restrictions

if TYPE_CHECKING:
    from posthouse.services.reception import Client


async def client_name(client: "Client", restrictions: Restrictions) -> str:
    """Its name where the DNS confirms it, or ``unknown``."""
    if client.name is None and (client.peer == "unix" or ipaddress.ip_address(client.peer).is_loopback):
        return "localhost"
    facts = Facts(
        client.peer,
        restrictions.directory,
        restrictions.resolver,
        restrictions.dns_lists,
        name=client.name,
        known=client.known,
    )
    return (await facts.names()).verified or UNKNOWN
