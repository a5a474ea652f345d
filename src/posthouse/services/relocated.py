"""Relocated users: senders are told where somebody is now, or that they are gone."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.directory.records import Cursor, Row
from posthouse.services import access
from posthouse.services.aliases import alias_key
from posthouse.services.changes import NotChanged, check_hosted, domain_key, mail_address, make, pages, plain_text

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

UNKNOWN = "unknown"


async def add(directory: Directory, address: str, new_address: str = UNKNOWN, *, actor: Actor) -> str:
    """Refuse mail for ``address``, saying the new one unless it is unknown; the key. Raises ``NotChanged``."""
    key, new = alias_key(address)[1], moved_to(new_address)
    access.check_address(actor, key)

    async def work(tables: "Tables") -> str:
        if "@" in key:
            await check_hosted(tables, key.rpartition("@")[2])
        if there := await tables.destinations("relocated", key):
            raise NotChanged(f"{key} is relocated already, to {there[0]}: 'posthouse relocated remove {key}' first")
        await tables.add("relocated", key, new)
        await tables.audit("relocated add", key, new)
        return key

    return await make(directory, actor, work)


async def remove(directory: Directory, address: str, *, actor: Actor) -> str:
    """Forget about a move; the key. Raises ``NotChanged``."""
    key = alias_key(address)[1]
    access.check_address(actor, key)

    async def work(tables: "Tables") -> str:
        if not await tables.remove("relocated", key):
            raise NotChanged(f"{key} is not relocated; 'posthouse relocated list' shows who is")
        await tables.audit("relocated remove", key)
        return key

    return await make(directory, actor, work)


async def listing(directory: Directory, *, actor: Actor, domain: str = "") -> AsyncIterator[Row]:
    """Who has moved, by address. Raises ``NotChanged``."""
    wanted = [domain_key(domain)] if domain else [""] if actor.domains is None else sorted(actor.domains)
    for name in wanted:
        if name:
            access.check(actor, name)

        async def page(tables: "Tables", after: Cursor, name: str = name) -> list[tuple[Cursor, Row]]:
            return await tables.rows("relocated", after, domain=name)

        async for rows in pages(directory, page):
            for row in rows:
                yield row


def moved_to(text: str) -> str:
    """What senders are told: an address, or any line of text. Raises ``NotChanged``."""
    if not text.strip() or text.lower() == UNKNOWN:
        return UNKNOWN
    return mail_address(text) if "@" in text and " " not in text else plain_text(text, "new address")
