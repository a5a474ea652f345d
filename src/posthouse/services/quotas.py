"""Quotas as operators write them and as ``users.quota`` has them, and what a domain allows its accounts."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from posthouse.directory.records import DomainSettings
from posthouse.services.changes import NotChanged
from posthouse.store.quota import parse

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

_QUOTA = re.compile(r"|\d{1,18}|\d{1,18}[SC](,\d{1,18}[SC])?", re.ASCII)
_SHORT = re.compile(r"(\d{1,9})([KMGT])B?", re.ASCII | re.IGNORECASE)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


def quota_text(text: str) -> str:
    """A quota as tables have it, empty for none: ``2G`` and the like become bytes. Raises ``NotChanged``."""
    if text.lower() == "none":
        return ""
    if short := _SHORT.fullmatch(text):
        return str(int(short[1]) * 1024 ** _POWERS[short[2].upper()])
    if not _QUOTA.fullmatch(text):
        raise NotChanged(
            f"{text!r} is not a quota: expected bytes, as in 10485760 or 10M, or 10485760S,1000C, or none"
        )
    return text


def quota_bytes(quota: str) -> int | None:
    """How many bytes a quota allows; None: any number."""
    limit = parse(quota)
    return limit.size_bytes or None if limit else None


async def check_room(
    tables: "Tables", domain: str, settings: DomainSettings, new: Mapping[str, str], *, are_new: bool = True
) -> None:
    """Raises ``NotChanged`` where the domain may not have the accounts ``new`` (address to quota) as well.

    ``are_new`` is False where they are there already and only their quotas change.
    """
    if are_new and settings.max_accounts is not None:
        present = await tables.count_accounts(domain)
        if present + len(new) > settings.max_accounts:
            raise NotChanged(
                f"{domain} has {present} accounts and may have {settings.max_accounts}: "
                f"'posthouse domain set {domain} --max-accounts N' allows more"
            )
    if settings.total_quota_bytes is not None:
        await _check_total(tables, domain, settings.total_quota_bytes, new)


async def _check_total(tables: "Tables", domain: str, total: int, new: Mapping[str, str]) -> None:
    for email, quota in new.items():
        if quota_bytes(quota) is None:
            raise NotChanged(f"{email} needs a quota: all accounts of {domain} share {total} bytes")
    together = {**await tables.quotas(domain), **new}
    used = sum(quota_bytes(quota) or 0 for quota in together.values())
    if used > total:
        raise NotChanged(
            f"the quotas in {domain} would be {used} bytes together, and {total} are allowed: "
            f"'posthouse domain set {domain} --total-quota BYTES' allows more"
        )
