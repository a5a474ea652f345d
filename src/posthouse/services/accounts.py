"""Accounts: taking on a user, changing what they have, shutting one out, letting one go.

Invariants:
  1. A new password is kept as SCRAM-SHA-256 keys and an argon2id hash, and ``clear`` is empty then.
  2. A maildir stays below the mail root and belongs to one account, whatever the address looks like.
  3. Mail is deleted only when that is asked for.
"""

import asyncio
import os
import pwd
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account, Actor
from posthouse.directory.records import AccountRow, Cursor, KeyedTable
from posthouse.message.address import split
from posthouse.services import access, aliases, quotas
from posthouse.services.changes import NotChanged, address_key, check_hosted, domain_key, make, pages, plain_text
from posthouse.services.passwords import new_secrets
from posthouse.store.layout import MIRROR_SUFFIX

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

DEFAULT_OWNER = 1001
"""The uid and gid of classic set-ups' mail."""

_UNSAFE = re.compile(rb"^\.|[^a-z0-9.=+_-]")


@dataclass(frozen=True, slots=True)
class Removed:
    """A removed account: where its mail is, or was, and which aliases lead to it."""

    email: str
    path: str
    aliases: tuple[str, ...]


async def add(
    directory: Directory,
    settings: Settings,
    address: str,
    password: str,
    *,
    actor: Actor,
    name: str = "",
    quota: str | None = None,
) -> Account:
    """A new account in a hosted domain; ``quota`` None is the domain's default. Raises ``NotChanged``."""
    key = address_key(address)
    domain = split(key)[1]
    access.check(actor, domain)
    given = None if quota is None else quotas.quota_text(quota)
    uid, gid = owner(settings)
    account = Account(key, plain_text(name, "name"), uid, gid, "", maildir(key), "", enabled=True)
    scram, argon2id = await _secrets(password)

    async def work(tables: "Tables") -> Account:
        await check_hosted(tables, domain)
        if await tables.account(key):
            raise NotChanged(f"{key} exists already")
        if await tables.with_maildirs([account.maildir]):
            raise NotChanged(f"{key}: another account has the maildir {account.maildir}")
        limits = await tables.domain_settings(domain)
        new = replace(account, quota=limits.default_quota if given is None else given)
        await quotas.check_room(tables, domain, limits, {key: new.quota})
        await tables.add_account(new)
        await tables.put_secrets({key: (scram, argon2id)})
        await tables.audit("account add", key, f"quota {new.quota}" if new.quota else "")
        return new

    return await make(directory, actor, work)


async def set_password(directory: Directory, address: str, password: str, *, actor: Actor) -> Account:
    """A new password; the old one, in ``clear`` or not, is no longer valid. Raises ``NotChanged``."""
    key = _checked(actor, address)
    scram, argon2id = await _secrets(password)

    async def work(tables: "Tables") -> Account:
        account = await existing(tables, key)
        await tables.set_secrets(key, scram, argon2id)
        await tables.audit("account passwd", key)
        return account

    return await make(directory, actor, work)


async def set_quota(directory: Directory, address: str, quota: str, *, actor: Actor) -> Account:
    """Another quota; empty or ``none``: no limit. Raises ``NotChanged``."""
    key, new = _checked(actor, address), quotas.quota_text(quota)

    async def work(tables: "Tables") -> Account:
        account = await existing(tables, key)
        domain = split(key)[1]
        await quotas.check_room(tables, domain, await tables.domain_settings(domain), {key: new}, are_new=False)
        await tables.change_account(key, quota=new)
        await tables.audit("account quota", key, f"{account.quota or 'none'} -> {new or 'none'}")
        return replace(account, quota=new)

    return await make(directory, actor, work)


async def set_name(directory: Directory, address: str, name: str, *, actor: Actor) -> Account:
    """Another name for the user. Raises ``NotChanged``."""
    plain_text(name, "name")
    return await _change(directory, actor, address, "account name", name, name=name)


async def enable(directory: Directory, address: str, *, enabled: bool, actor: Actor) -> Account:
    """Allow, or no longer allow, both delivery and login. Raises ``NotChanged``."""
    what = "account enable" if enabled else "account disable"
    return await _change(directory, actor, address, what, "", enabled=enabled)


async def _change(directory: Directory, actor: Actor, address: str, what: str, detail: str, **new: Any) -> Account:
    key = _checked(actor, address)

    async def work(tables: "Tables") -> Account:
        account = await existing(tables, key)
        changed = replace(account, **new)
        if "enabled" in new and changed == account:
            raise NotChanged(f"{account.email} is already {'enabled' if account.enabled else 'disabled'}")
        await tables.change_account(key, name=changed.name, postfix="y" if changed.enabled else "n")
        await tables.audit(what, key, detail)
        return changed

    return await make(directory, actor, work)


async def forward(
    directory: Directory, address: str, destinations: Sequence[str], *, keep_copy: bool, actor: Actor
) -> tuple[str, ...]:
    """Send an account's mail on, keeping a copy or not; where it goes now. Raises ``NotChanged``."""
    key = _checked(actor, address)
    wanted = [aliases.destination("virtual", text) for text in aliases.parts(destinations)]
    if not wanted:
        raise NotChanged(f"{key}: no address to forward to")
    if keep_copy and key not in wanted:
        wanted.insert(0, key)

    async def work(tables: "Tables") -> tuple[str, ...]:
        await existing(tables, key)
        await tables.replace("virtual", key, wanted)
        await aliases.check_loops(tables, key)
        await tables.audit("account forward", key, ", ".join(wanted))
        return tuple(wanted)

    return await make(directory, actor, work)


async def stop_forwarding(directory: Directory, address: str, *, actor: Actor) -> tuple[str, ...]:
    """Keep an account's mail here again; where it went. Raises ``NotChanged``."""
    key = _checked(actor, address)

    async def work(tables: "Tables") -> tuple[str, ...]:
        await existing(tables, key)
        before = tuple(aliases.parts(await tables.destinations("virtual", key)))
        if not set(before) - {key}:
            raise NotChanged(f"{key} is not forwarded")
        await tables.remove("virtual", key)
        await tables.audit("account forward", key, "no more")
        return before

    return await make(directory, actor, work)


async def remove(
    directory: Directory,
    settings: Settings,
    address: str,
    *,
    actor: Actor,
    delete_mail: bool = False,
    remove_aliases: bool = False,
) -> Removed:
    """Remove an account and what it could log in with. Raises ``NotChanged``, ``OSError``.

    With ``remove_aliases`` also the aliases that lead to it, or those destinations of theirs.
    """
    key = _checked(actor, address)

    async def work(tables: "Tables") -> Removed:
        account = await existing(tables, key)
        path, is_below_root = mail_path(settings, account)
        if delete_mail and not is_below_root:
            raise NotChanged(f"{account.email}: maildir {account.maildir!r} is not below the mail root")
        await tables.remove_account(key)
        found = await _drop_aliases(tables, key, actor, remove_all=remove_aliases)
        detail = ["with its mail"] * delete_mail + [f"with {len(found)} aliases"] * (remove_aliases and bool(found))
        await tables.audit("account remove", key, ", ".join(detail))
        return Removed(account.email, path, tuple(found))

    removed = await make(directory, actor, work)
    if delete_mail:
        await asyncio.to_thread(_delete, removed.path)
    return removed


async def _drop_aliases(tables: "Tables", key: str, actor: Actor, *, remove_all: bool) -> list[str]:
    """Its own row that leads to itself goes; the others that lead to it go too, or are only named."""
    found: dict[str, None] = {}
    for row in await tables.keyed("virtual", (key,)):
        kept = [part for part in aliases.parts([row.destination]) if part.lower() != key]
        if kept:
            found[row.key.lower()] = None
        if remove_all or not kept:
            await tables.remove_rows("virtual", [row.id])
        elif kept != aliases.parts([row.destination]):
            await tables.set_destination("virtual", row.id, ", ".join(kept))
    names: tuple[KeyedTable, ...] = ("virtual", "alias") if actor.domains is None else ("virtual",)
    for table in names:
        after = 0
        while rows := await tables.leading_to(table, key, after=after):
            after = rows[-1].id
            for row in rows:
                if not access.covers(actor, row.key.lower().rpartition("@")[2]):
                    continue
                found[row.key.lower()] = None
                kept = [part for part in aliases.parts([row.destination]) if part.lower() != key]
                if remove_all:
                    await _keep(tables, table, row.id, kept)
    return list(found)


async def _keep(tables: "Tables", table: KeyedTable, row_id: int, kept: Sequence[str]) -> None:
    if kept:
        await tables.set_destination(table, row_id, ", ".join(kept))
    else:
        await tables.remove_rows(table, [row_id])


async def listing(
    directory: Directory, *, actor: Actor, domain: str = "", with_secrets: bool = False
) -> AsyncIterator[list[AccountRow]]:
    """Every account by address, a page at a time, of one domain or all that ``actor`` may see.

    Raises ``NotChanged`` for a domain that has none and isn't hosted here.
    """
    wanted = [domain_key(domain)] if domain else [""] if actor.domains is None else sorted(actor.domains)
    for name in wanted:
        if name:
            access.check(actor, name)

        async def page(tables: "Tables", after: Cursor, name: str = name) -> list[tuple[Cursor, AccountRow]]:
            return await tables.accounts(after, domain=name, with_secrets=with_secrets)

        is_empty = True
        async for rows in pages(directory, page):
            is_empty = False
            yield rows
        if domain and is_empty:
            await directory.read(lambda tables, name=name: check_hosted(tables, name))


def maildir(key: str) -> str:
    """Where an address's mail lies below the mail root; no two addresses share it. Raises ``NotChanged``."""
    local, domain = split(key)
    if local.startswith('"') or domain.startswith("["):
        raise NotChanged(f"{key}: no account can have a quoted name, or an address literal for a domain")
    # What could mean something to a shell or a file system stands as %XX, a leading dot included.
    return f"{domain}/{_UNSAFE.sub(lambda octet: b'%%%02X' % ord(octet[0]), local.encode()).decode()}/"


def mail_path(settings: Settings, account: Account) -> tuple[str, bool]:
    """Where an account's mail is, and whether that is below the mail root, links followed."""
    root = os.path.realpath(settings.path(settings.mail.root))
    path = os.path.realpath(os.path.join(root, account.maildir))
    return path, path.startswith(root + os.sep)


def _delete(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
        return
    for mbox in filter(os.path.isfile, (path, f"{path}.lock")):
        os.unlink(mbox)
    shutil.rmtree(path + MIRROR_SUFFIX, ignore_errors=True)


async def existing(tables: "Tables", key: str) -> Account:
    """The account of that address. Raises ``NotChanged`` where there is none."""
    account = await tables.account(key)
    if account is None:
        raise NotChanged(f"{key}: there is no such account; 'posthouse account list' shows them")
    return account


def _checked(actor: Actor, address: str) -> str:
    key = address_key(address)
    access.check(actor, split(key)[1])
    return key


async def _secrets(password: str) -> tuple[str, str]:
    try:
        return await asyncio.to_thread(new_secrets, password)
    except ValueError as error:
        raise NotChanged(str(error)) from None


def owner(settings: Settings) -> tuple[int, int]:
    """Whom new mail belongs to: who we are, or will serve as; the classic default where that is root.

    Raises ``NotChanged`` where there is no such user.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    if settings.user:
        try:
            entry = pwd.getpwnam(settings.user)
        except KeyError:
            raise NotChanged(f"this host has no user {settings.user}, whose the mail would be (user)") from None
        return entry.pw_uid, entry.pw_gid
    return DEFAULT_OWNER, DEFAULT_OWNER
