"""Giving out accounts and addresses, a page at a time, in the columns that an import takes."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.directory.records import KEYED, AccountRow, Cursor, KeyedTable, Row
from posthouse.services import access, accounts
from posthouse.services.changes import NotChanged, pages
from posthouse.services.import_accounts import COLUMNS, SECRETS

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

What = Literal["accounts", "virtual", "alias", "transport", "relocated"]
WHATS: tuple[What, ...] = ("accounts", *KEYED)


def columns(what: What, *, with_secrets: bool = False) -> tuple[str, ...]:
    """The header of an export."""
    if what != "accounts":
        return ("key", "destination")
    return (*COLUMNS, *SECRETS) if with_secrets else COLUMNS


async def rows(
    directory: Directory, what: What, *, actor: Actor, with_secrets: bool = False
) -> AsyncIterator[list[tuple[str | int, ...]]]:
    """All that ``actor`` may see, by key, a page at a time; ``with_secrets``: what is stored for passwords too.

    Raises ``NotChanged``.
    """
    if what == "accounts":
        if with_secrets:
            access.check_host(actor)
        async for found in accounts.listing(directory, actor=actor, with_secrets=with_secrets):
            yield [_account(row, with_secrets=with_secrets) for row in found]
        return
    if what not in KEYED:
        raise NotChanged(f"{what!r} can't be exported, only {', '.join(WHATS)}")
    if what in ("alias", "transport"):
        access.check_host(actor)
    for domain in [""] if actor.domains is None else sorted(actor.domains):
        async for found in pages(directory, _page(what, domain)):
            yield [(row.key, row.destination) for row in found]


def _page(table: KeyedTable, domain: str):
    async def page(tables: "Tables", after: Cursor) -> list[tuple[Cursor, Row]]:
        return await tables.rows(table, after, domain=domain)

    return page


def _account(row: AccountRow, *, with_secrets: bool) -> tuple[str | int, ...]:
    account = row.account
    plain = (
        account.email,
        account.name,
        account.quota or "none",
        account.uid,
        account.gid,
        account.homedir,
        account.maildir,
        "y" if account.enabled else "n",
    )
    return (*plain, row.clear, row.scram_sha256, row.argon2id) if with_secrets else plain
