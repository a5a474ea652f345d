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


async def add(
    directory: Directory, address: str, new_address: str = UNKNOWN, *, actor: Actor, force: bool = False
) -> str:
    """Refuse mail for ``address``, saying the new one unless it is unknown; the key. Raises ``NotChanged``.

    Also for an account that may get mail, whose mail would be refused from then on, unless ``force``.
    """
    key, new = alias_key(address)[1], moved_to(new_address)
    access.check_address(actor, key)

    async def work(tables: "Tables") -> str:
        if "@" in key:
            await check_hosted(tables, key.rpartition("@")[2])
        if there := await tables.destinations("relocated", key):
            raise NotChanged(f"{key} is relocated already, to {there[0]}: 'posthouse relocated remove {key}' first")
        if not force:
            await _check_unused(tables, key)
        await tables.add("relocated", key, new)
        await tables.audit("relocated add", key, new)
        return key

    return await make(directory, actor, work)


async def _check_unused(tables: "Tables", key: str) -> None:
    local, _, domain = key.rpartition("@")
    if local:
        account = await tables.account(key)
        if account and account.enabled:
            raise NotChanged(
                f"{key} is an account, all of whose mail would be refused: 'posthouse account disable {key}' first, "
                "or say --force"
            )
    elif domain != key and tables.are_ours("users") and await tables.count_accounts(domain):
        raise NotChanged(f"{domain} has accounts, all of whose mail would be refused: say --force to do it")


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
    """Who has moved, by address. Raises ``NotChanged``, also for a domain that has none and isn't hosted here."""
    wanted = [domain_key(domain)] if domain else [""] if actor.domains is None else sorted(actor.domains)
    for name in wanted:
        if name:
            access.check(actor, name)

        async def page(tables: "Tables", after: Cursor, name: str = name) -> list[tuple[Cursor, Row]]:
            return await tables.rows("relocated", after, domain=name)

        is_empty = True
        async for rows in pages(directory, page):
            is_empty = False
            for row in rows:
                yield row
        if domain and is_empty:
            await directory.read(lambda tables, name=name: check_hosted(tables, name))


def moved_to(text: str) -> str:
    """What senders are told: an address, or any line of text. Raises ``NotChanged``."""
    if not text.strip() or text.lower() == UNKNOWN:
        return UNKNOWN
    return mail_address(text) if "@" in text and " " not in text else plain_text(text, "new address")
