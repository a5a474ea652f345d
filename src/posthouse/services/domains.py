"""Hosted domains: which there are, and taking one on or giving it up.

A domain that is taken on gets a ``transport`` row ``virtual:``, which Postfix understands as hosted too where its
``virtual_mailbox_domains`` reads that table. A bare row in ``virtual`` would make it a virtual *alias* domain
there, whose accounts Postfix does not know; existing ones count, but none is made.
"""

from collections import Counter
from dataclasses import dataclass

from posthouse.directory.directory import Directory
from posthouse.services.changes import NotChanged, domain_key

HOSTED = "virtual:"


@dataclass(frozen=True, slots=True)
class Domain:
    """A hosted domain: what its row in ``transport`` says (empty: a bare row in ``virtual``), and its size."""

    name: str
    transport: str
    accounts: int
    aliases: int


async def add(directory: Directory, name: str, *, who: str = "posthouse") -> str:
    """Host a domain from now on; its name as it was written. Raises ``NotChanged``."""
    domain = domain_key(name)
    async with directory.change(who, "domain add", domain) as tables:
        if await directory.is_hosted(domain):
            raise NotChanged(f"{domain} is already hosted here")
        if there := await tables.destinations("transport", domain):
            raise NotChanged(f"{domain} already has a transport row: {there[0]}")
        await tables.add("transport", domain, HOSTED)
    return domain


async def remove(directory: Directory, name: str, *, who: str = "posthouse") -> str:
    """Give up a domain that has neither accounts nor aliases left. Raises ``NotChanged``."""
    domain = domain_key(name)
    async with directory.change(who, "domain remove", domain) as tables:
        accounts, aliases = await tables.domain_usage(domain)
        if accounts:
            raise NotChanged(f"{domain} still has accounts ({', '.join(accounts)}…): remove them first")
        if aliases:
            raise NotChanged(f"{domain} still has aliases ({', '.join(aliases)}…): remove them first")
        if not await tables.remove("transport", domain) + await tables.remove("virtual", domain):
            raise NotChanged(f"{domain} is not a domain of this host; 'posthouse domain list' shows them")
    return domain


async def listing(directory: Directory) -> list[Domain]:
    """Every hosted domain that has a row, by name."""
    tables = directory.tables()
    virtual = await tables.rows("virtual")
    transports = {row.key.lower(): row.destination for row in await tables.rows("transport")}
    names = {*transports, *(row.key.lower() for row in virtual if "@" not in row.key and "." in row.key)}
    accounts = Counter(account.email.lower().rpartition("@")[2] for account in await tables.accounts())
    aliases = Counter(key.rpartition("@")[2] for key in {row.key.lower() for row in virtual} if "@" in key)
    return [
        Domain(name, transports.get(name, ""), accounts[name], aliases[name])
        for name in sorted(names)
        if "@" not in name and not name.startswith((".", "*")) and await directory.is_hosted(name)
    ]
