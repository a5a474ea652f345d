"""Domains: whether they are hosted, what they may have, who administers them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select

from posthouse.directory import schema
from posthouse.directory.model import Explanation
from posthouse.directory.records import DomainSettings, text
from posthouse.directory.tables.base import Rows, now
from posthouse.message.address import lookup_key

EVERYTHING = "*"
_domains = schema.domains
_admins = schema.admins
_COLUMNS = tuple(
    _domains.c[name] for name in ("domain", "enabled", "max_accounts", "default_quota", "total_quota_bytes", "note")
)


class DomainRows(Rows):
    """A domain without a row of ours has the defaults."""

    async def is_hosted(self, domain: str) -> bool:
        """Whether mail for ``domain`` ends here, this transaction's changes included."""
        return (await self.resolver.site(lookup_key(f"@{domain}")[1:])).is_hosted

    async def explain(self, address: str) -> Explanation:
        """Where mail for ``address`` goes, this transaction's changes included."""
        return await self.resolver.explain(address)

    async def domain_settings(self, domain: str) -> DomainSettings:
        statement = select(*_COLUMNS).where(_domains.c.domain == domain)
        return next((_settings(row) for row in await self.execute(statement)), DomainSettings())

    async def all_domain_settings(self) -> dict[str, DomainSettings]:
        """What has been set, by domain."""
        return {row[0]: _settings(row) for row in await self.execute(select(*_COLUMNS))}

    async def set_domain_settings(self, domain: str, settings: DomainSettings) -> None:
        statement = select(_domains.c.created).where(_domains.c.domain == domain)
        created = next((row[0] for row in await self.execute(statement)), now())
        await self.forget_domain_settings(domain)
        values = {
            "domain": domain,
            "enabled": int(settings.enabled),
            "max_accounts": settings.max_accounts,
            "default_quota": settings.default_quota,
            "total_quota_bytes": settings.total_quota_bytes,
            "note": settings.note,
            "created": created,
        }
        await self.execute(insert(_domains), [values])

    async def forget_domain_settings(self, domain: str) -> None:
        await self.execute(delete(_domains).where(_domains.c.domain == domain))

    async def admins(self, domain: str = "") -> list[tuple[str, str]]:
        """Who may administer what: accounts and domains, of one domain or all."""
        statement = select(_admins.c.email, _admins.c.domain).order_by(_admins.c.domain, _admins.c.email)
        if domain:
            statement = statement.where(_admins.c.domain == domain)
        return [(row[0], row[1]) for row in await self.execute(statement)]

    async def administered(self, email: str) -> frozenset[str]:
        """What an account may administer; ``*`` is everything."""
        statement = select(_admins.c.domain).where(_admins.c.email == email.lower())
        return frozenset(row[0] for row in await self.execute(statement))

    async def add_admin(self, email: str, domain: str) -> None:
        await self.execute(insert(_admins), [{"email": email.lower(), "domain": domain}])

    async def remove_admin(self, email: str, domain: str) -> None:
        await self.execute(delete(_admins).where(_admins.c.email == email.lower(), _admins.c.domain == domain))

    async def remove_admins(self, domain: str) -> None:
        await self.execute(delete(_admins).where(_admins.c.domain == domain))


def _settings(row: Sequence[Any]) -> DomainSettings:
    _, enabled, max_accounts, default_quota, total_quota_bytes, note = row
    return DomainSettings(bool(enabled), max_accounts, text(default_quota), total_quota_bytes, text(note))
