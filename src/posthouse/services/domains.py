"""Hosted domains: which there are, what they may have, and taking one on or giving it up.

A domain that is taken on gets a ``transport`` row ``virtual:``, which Postfix understands as hosted too where its
``virtual_mailbox_domains`` reads that table. A bare row in ``virtual`` would make it a virtual *alias* domain
there, whose accounts Postfix does not know; existing ones count, but none is made. What is set for a domain beyond
that is in a table of ours; a domain without a row there has the defaults.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, TypedDict, Unpack

from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.lookups import Rows
from posthouse.directory.model import Actor
from posthouse.directory.records import AccountRow, Cursor, DomainSettings, KeyedTable, Row
from posthouse.directory.transports import domain_names, site
from posthouse.services import access, quotas
from posthouse.services.changes import NotChanged, domain_key, make, pages, plain_text

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

HOSTED = "virtual:"
MAX_NUMBER = 2**31 - 1
_OPTIONS = {
    "max_accounts": "max-accounts",
    "default_quota": "default-quota",
    "total_quota_bytes": "total-quota",
}


class Fields(TypedDict, total=False):
    """What can be set for a domain; see ``DomainSettings``."""

    enabled: bool
    max_accounts: int | None
    default_quota: str
    total_quota_bytes: int | None
    note: str


@dataclass(frozen=True, slots=True)
class Domain:
    """A hosted domain: what its row in ``transport`` says (empty: a bare row in ``virtual``), and its size."""

    name: str
    transport: str
    accounts: int
    aliases: int
    settings: DomainSettings


@dataclass(frozen=True, slots=True)
class DomainOverview:
    """Everything about one domain. ``alias_domains`` lead to it user by user; ``quota_bytes`` are its accounts'.

    What another program's tables have is None, or empty.
    """

    name: str
    transport: tuple[str, ...]
    settings: DomainSettings
    accounts: int | None
    quota_bytes: int | None
    catchall: tuple[str, ...]
    alias_domains: tuple[str, ...]
    admins: tuple[str, ...]


async def add(directory: Directory, name: str, *, actor: Actor, **fields: Unpack[Fields]) -> str:
    """Host a domain from now on; its name as it was written. Raises ``NotChanged``."""
    access.check_host(actor)
    domain, new = domain_key(name), changed(DomainSettings(), fields)

    async def work(tables: "Tables") -> str:
        await host(tables, domain)
        if fields:
            await tables.set_domain_settings(domain, new)
        await tables.audit("domain add", domain, described(fields))
        return domain

    return await make(directory, actor, work)


async def host(tables: "Tables", domain: str) -> None:
    """Have the row that makes a domain hosted. Raises ``NotChanged`` where it is, or is handed on."""
    if await tables.is_hosted(domain):
        raise NotChanged(f"{domain} is already hosted here")
    if there := await tables.destinations("transport", domain):
        raise NotChanged(f"{domain} already has a transport row: {there[0]}")
    await tables.add("transport", domain, HOSTED)


async def set_fields(directory: Directory, name: str, *, actor: Actor, **fields: Unpack[Fields]) -> DomainSettings:
    """Change what is given, leave the rest. Raises ``NotChanged``.

    Who administers only the domain may not raise its limits, nor enable it.
    """
    domain = domain_key(name)
    access.check(actor, domain)
    if set(fields) - {"default_quota"}:
        access.check_host(actor)
    if not fields:
        raise NotChanged(f"{domain}: nothing to set was given")

    async def work(tables: "Tables") -> DomainSettings:
        await check_there(tables, domain)
        new = changed(await tables.domain_settings(domain), fields)
        await tables.set_domain_settings(domain, new)
        await tables.audit("domain set", domain, described(fields))
        return new

    return await make(directory, actor, work)


async def remove(directory: Directory, name: str, *, actor: Actor) -> str:
    """Give up a domain that has neither accounts nor aliases left. Raises ``NotChanged``."""
    access.check_host(actor)
    domain = domain_key(name)

    async def work(tables: "Tables") -> str:
        await check_empty(tables, domain)
        if leading := await tables.leading_to("virtual", f"@{domain}"):
            raise NotChanged(f"{leading[0].key.lower()} leads to {domain}: remove that first")
        if not await tables.remove("transport", domain) + await tables.remove("virtual", domain):
            raise NotChanged(f"{domain} is not a domain of this host; 'posthouse domain list' shows them")
        await tables.forget_domain_settings(domain)
        await tables.remove_admins(domain)
        await tables.forget_sending([domain, f"@{domain}"])
        await tables.audit("domain remove", domain)
        return domain

    return await make(directory, actor, work)


async def check_empty(tables: "Tables", domain: str) -> None:
    """Raises ``NotChanged`` for a domain that still has accounts or aliases."""
    if accounts := await tables.accounts(limit=3, domain=domain):
        some = ", ".join(row.account.email for _, row in accounts)
        raise NotChanged(f"{domain} still has accounts ({some}…): remove them first")
    if rows := await tables.rows("virtual", limit=3, domain=domain):
        raise NotChanged(f"{domain} still has aliases ({', '.join(row.key for _, row in rows)}…): remove them first")


async def check_there(tables: "Tables", domain: str) -> None:
    """Raises ``NotChanged`` for a domain that isn't hosted here."""
    if not await tables.is_hosted(domain):
        raise NotChanged(f"{domain} is not a domain of this host; 'posthouse domain list' shows them")


async def show(directory: Directory, name: str, *, actor: Actor) -> DomainOverview:
    """One domain. Raises ``NotChanged``."""
    domain = domain_key(name)
    access.check(actor, domain)

    async def work(tables: "Tables") -> DomainOverview:
        await check_there(tables, domain)
        sizes = await tables.quotas(domain) if tables.are_ours("users") else None
        routes = await tables.destinations("transport", domain) if tables.are_ours("transport") else []
        leading = await tables.leading_to("virtual", f"@{domain}") if tables.are_ours("virtual") else []
        catchall = await tables.destinations("virtual", f"@{domain}") if tables.are_ours("virtual") else []
        return DomainOverview(
            domain,
            tuple(routes),
            await tables.domain_settings(domain),
            None if sizes is None else len(sizes),
            None if sizes is None else sum(quotas.quota_bytes(quota) or 0 for quota in sizes.values()),
            tuple(catchall),
            tuple(sorted({row.key.lower()[1:] for row in leading if row.key.startswith("@")})),
            tuple(email for email, _ in await tables.admins(domain)),
        )

    return await directory.read(work)


async def listing(directory: Directory, settings: Settings, *, actor: Actor) -> list[Domain]:
    """Every hosted domain that has a row and that ``actor`` may see, by name."""
    transport: dict[str, str] = {}
    bare: set[str] = set()
    aliases: Counter[str] = Counter()
    last = ""
    async for row in _rows(directory, "transport"):
        transport.setdefault(row.key.lower(), row.destination)
    async for row in _rows(directory, "virtual"):
        key = row.key.lower()
        if "@" not in key:
            bare.add(key)
        elif key != last:
            aliases[key.rpartition("@")[2]] += 1
        last = key
    accounts = await _count_accounts(directory)
    kept = await directory.read(lambda tables: tables.all_domain_settings())
    own_names = frozenset({settings.hostname.lower(), "localhost"})
    return [
        Domain(name, transport.get(name, ""), accounts[name], aliases[name], kept.get(name, DomainSettings()))
        for name in sorted({*transport, *bare})
        if _is_domain(name) and access.covers(actor, name) and _is_hosted(name, transport, bare, own_names)
    ]


def _is_domain(name: str) -> bool:
    return "@" not in name and "." in name and not name.startswith((".", "*"))


def _is_hosted(name: str, transport: Mapping[str, str], bare: set[str], own_names: frozenset[str]) -> bool:
    names = domain_names(name)
    routes = {key: (transport[key],) for key in names if key in transport}
    virtual = {name: ("",)} if name in bare else {}
    return site(names, Rows(virtual, {}, routes, {}, {}, ()), own_names).is_hosted


async def _rows(directory: Directory, table: KeyedTable) -> AsyncIterator[Row]:
    async def page(tables: "Tables", after: Cursor) -> list[tuple[Cursor, Row]]:
        return await tables.rows(table, after)

    async for rows in pages(directory, page):
        for row in rows:
            yield row


async def _count_accounts(directory: Directory) -> Counter[str]:
    async def page(tables: "Tables", after: Cursor) -> list[tuple[Cursor, AccountRow]]:
        return await tables.accounts(after)

    found: Counter[str] = Counter()
    async for rows in pages(directory, page):
        found.update(row.account.email.lower().rpartition("@")[2] for row in rows)
    return found


def changed(settings: DomainSettings, fields: Fields) -> DomainSettings:
    """``settings`` with ``fields``, checked. Raises ``NotChanged``."""
    new = replace(settings, **fields)
    plain_text(new.note, "note", 1000)
    if new.max_accounts is not None and new.max_accounts not in range(MAX_NUMBER + 1):
        raise NotChanged(f"the most accounts that a domain may have: expected 0 to {MAX_NUMBER}, or none")
    if new.total_quota_bytes is not None and new.total_quota_bytes not in range(1, 10**18):
        raise NotChanged("the quota of all accounts together: expected bytes, as in 10485760 or 10G")
    new = replace(new, default_quota=quotas.quota_text(new.default_quota))
    default = quotas.quota_bytes(new.default_quota)
    if default is not None and new.total_quota_bytes is not None and default > new.total_quota_bytes:
        raise NotChanged(f"the default quota of {default} bytes is above the total of {new.total_quota_bytes}")
    return new


def described(fields: Fields) -> str:
    """In the words of the command line, also for the audit."""
    words: list[str] = []
    for name, value in fields.items():
        if name == "enabled":
            words.append("enabled" if value else "disabled")
        else:
            words.append(f"{_OPTIONS.get(name, name)} {'none' if value in (None, '') else value}")
    return ", ".join(words)


def as_dict(domain: Domain | DomainOverview) -> dict[str, object]:
    """Its fields, what is set for it among them."""
    fields = asdict(domain)
    return {**{name: value for name, value in fields.items() if name != "settings"}, **fields["settings"]}
