"""Who may change what: an actor's domains, and nothing of the host itself for those who have only some.

Invariant: whatever changes or shows a domain, its accounts or its addresses asks here first, before it looks.
"""

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.message.address import lookup_key
from posthouse.services.changes import NotChanged

EVERYTHING = "*"


def covers(actor: Actor, domain: str) -> bool:
    """Whether ``actor`` may administer ``domain``, given as a look-up key."""
    return actor.domains is None or domain in actor.domains


def check(actor: Actor, domain: str) -> None:
    """Raises ``NotChanged`` where ``actor`` may not administer ``domain``."""
    if not covers(actor, domain):
        raise NotChanged(f"{actor.name} may not administer {domain}")


def check_address(actor: Actor, key: str) -> None:
    """The same for the domain of an address; one without a domain is the host's own."""
    domain = key.rpartition("@")[2] if "@" in key else ""
    if domain:
        check(actor, domain)
    else:
        check_host(actor)


def check_host(actor: Actor) -> None:
    """Raises ``NotChanged`` for an actor who may not administer everything."""
    if actor.domains is not None:
        raise NotChanged(
            f"{actor.name} may not administer this host, only {', '.join(sorted(actor.domains)) or 'nothing'}"
        )


async def administrator(directory: Directory, email: str, source: str) -> Actor:
    """The actor that an account is, for one who has logged in from ``source``. Raises ``TryLater``."""
    key = lookup_key(email)
    domains = await directory.read(lambda tables: tables.administered(key))
    return Actor(key, source, None if EVERYTHING in domains else domains)
