"""What else belongs to a domain: its catch-all, other domains that lead to it, and who may administer it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.message.address import split
from posthouse.services import access, aliases, domains
from posthouse.services.accounts import existing
from posthouse.services.changes import NotChanged, address_key, domain_key, make

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables


async def set_catchall(
    directory: Directory, name: str, destinations: Sequence[str], *, actor: Actor
) -> aliases.Alias:
    """Have mail for addresses that a domain doesn't have go there, and nowhere else. Raises ``NotChanged``."""
    what = "domain catchall"
    return await aliases.replace(directory, f"@{domain_key(name)}", destinations, what=what, actor=actor)


async def remove_catchall(directory: Directory, name: str, *, actor: Actor) -> aliases.Alias:
    """Refuse mail for addresses that a domain doesn't have. Raises ``NotChanged``."""
    domain = domain_key(name)
    access.check(actor, domain)

    async def work(tables: "Tables") -> aliases.Alias:
        if not await tables.remove("virtual", f"@{domain}"):
            raise NotChanged(f"{domain} has no catch-all")
        await tables.audit("domain catchall", f"@{domain}", "no more")
        return aliases.Alias("virtual", f"@{domain}", ())

    return await make(directory, actor, work)


async def add_alias_domain(directory: Directory, name: str, target: str, *, actor: Actor) -> str:
    """Have every user of ``target`` get mail for the same name at the domain ``name``. Raises ``NotChanged``."""
    domain, other = domain_key(name), domain_key(target)
    access.check(actor, domain)
    access.check(actor, other)
    if domain == other:
        raise NotChanged(f"{domain} can't lead to itself")

    async def work(tables: "Tables") -> str:
        await domains.check_there(tables, other)
        if there := await tables.destinations("virtual", f"@{domain}"):
            raise NotChanged(f"@{domain} leads to {', '.join(there)} already")
        if not await tables.is_hosted(domain):
            access.check_host(actor)
            await domains.host(tables, domain)
        await tables.add("virtual", f"@{domain}", f"@{other}")
        await aliases.check_loops(tables, f"@{domain}")
        await tables.audit("domain alias add", domain, f"@{other}")
        return domain

    return await make(directory, actor, work)


async def remove_alias_domain(directory: Directory, name: str, *, actor: Actor) -> tuple[str, bool]:
    """Undo that; the domain, and whether it is given up, having nothing of its own. Raises ``NotChanged``."""
    domain = domain_key(name)
    access.check(actor, domain)

    async def work(tables: "Tables") -> tuple[str, bool]:
        there = aliases.parts(await tables.destinations("virtual", f"@{domain}"))
        if not any(text.startswith("@") for text in there):
            raise NotChanged(f"{domain} leads to no other domain")
        await tables.replace("virtual", f"@{domain}", [text for text in there if not text.startswith("@")])
        is_empty = not await tables.accounts(limit=1, domain=domain) and not await tables.rows(
            "virtual", domain=domain
        )
        gives_up = is_empty and await tables.destinations("transport", domain) == [domains.HOSTED]
        if gives_up:
            await tables.remove("transport", domain)
            await tables.forget_domain_settings(domain)
            await tables.remove_admins(domain)
        await tables.audit("domain alias remove", domain, "given up" if gives_up else "")
        return domain, gives_up

    return await make(directory, actor, work)


async def add_admin(directory: Directory, name: str, address: str, *, actor: Actor) -> tuple[str, str]:
    """Let an account administer a domain, or ``*``: everything; account and domain. Raises ``NotChanged``."""
    access.check_host(actor)
    domain, key = _administered(name), address_key(address)

    async def work(tables: "Tables") -> tuple[str, str]:
        await existing(tables, key)
        if domain != access.EVERYTHING:
            await domains.check_there(tables, domain)
        if domain in await tables.administered(key):
            raise NotChanged(f"{key} administers {domain} already")
        await tables.add_admin(key, domain)
        await tables.audit("domain admin add", domain, key)
        return key, domain

    return await make(directory, actor, work)


async def remove_admin(directory: Directory, name: str, address: str, *, actor: Actor) -> tuple[str, str]:
    """No longer let an account administer a domain; account and domain. Raises ``NotChanged``."""
    access.check_host(actor)
    domain, key = _administered(name), address_key(address)

    async def work(tables: "Tables") -> tuple[str, str]:
        if domain not in await tables.administered(key):
            raise NotChanged(f"{key} does not administer {domain}")
        await tables.remove_admin(key, domain)
        await tables.audit("domain admin remove", domain, key)
        return key, domain

    return await make(directory, actor, work)


async def admins(directory: Directory, name: str = "", *, actor: Actor) -> list[tuple[str, str]]:
    """Who may administer what that ``actor`` may see. Raises ``NotChanged``."""
    domain = _administered(name) if name else ""
    found = await directory.read(lambda tables: tables.admins(domain))
    return [(email, of) for email, of in found if access.covers(actor, of) or access.covers(actor, split(email)[1])]


def _administered(name: str) -> str:
    return name if name == access.EVERYTHING else domain_key(name)
