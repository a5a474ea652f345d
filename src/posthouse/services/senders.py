"""What a login may send as beyond its own addresses and aliases, because an operator has said so.

Invariant: who administers some domains lets logins of those send as addresses of those, and no others.
"""

from typing import TYPE_CHECKING

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.message.address import split
from posthouse.services import access
from posthouse.services.accounts import existing
from posthouse.services.changes import NotChanged, address_key, domain_key, make

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

MAX_SENDERS = 1_000
"""Of one login: they are read, and remembered, together."""


async def add(directory: Directory, login: str, address: str, *, actor: Actor) -> tuple[str, str]:
    """Let a login send as an address, or all of ``@domain``; both as they are kept. Raises ``NotChanged``."""
    key, granted = _login(actor, login), _sender(actor, address)

    async def work(tables: "Tables") -> None:
        await existing(tables, key)
        present = await tables.senders(key)
        if granted in present:
            raise NotChanged(f"{key} may send as {granted} already")
        if granted == key:
            raise NotChanged(f"{key} may send as itself anyhow")
        if len(present) >= MAX_SENDERS:
            raise NotChanged(f"{key} may send as {len(present)} addresses: grant a whole @domain")
        await tables.add_sender(key, granted)
        await tables.audit("account sender add", key, granted)

    await make(directory, actor, work)
    return key, granted


async def remove(directory: Directory, login: str, address: str, *, actor: Actor) -> tuple[str, str]:
    """Take that back. Raises ``NotChanged``."""
    key, granted = _login(actor, login), _sender(actor, address)

    async def work(tables: "Tables") -> None:
        if granted not in await tables.senders(key):
            raise NotChanged(f"{key} has not been granted {granted}; 'posthouse account sender list {key}'")
        await tables.remove_sender(key, granted)
        await tables.audit("account sender remove", key, granted)

    await make(directory, actor, work)
    return key, granted


async def listing(directory: Directory, login: str = "", *, actor: Actor) -> list[tuple[str, str]]:
    """What has been granted, to one login or to all that ``actor`` may see. Raises ``NotChanged``."""
    if login:
        key = _login(actor, login)
        return [(key, one) for one in await directory.read(lambda tables: tables.senders(key))]
    domains = [""] if actor.domains is None else sorted(actor.domains)
    return [row for domain in domains for row in await _of_domain(directory, domain)]


async def _of_domain(directory: Directory, domain: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after = ("", "")
    while rows := await directory.read(lambda tables, after=after: tables.senders_below(domain, after)):
        found += rows
        after = rows[-1]
    return found


def _login(actor: Actor, login: str) -> str:
    key = address_key(login)
    access.check(actor, split(key)[1])
    return key


def _sender(actor: Actor, address: str) -> str:
    """An address, or ``@domain``, as tables have it."""
    key = f"@{domain_key(address[1:])}" if address.startswith("@") else address_key(address)
    access.check(actor, split(key)[1])
    return key
