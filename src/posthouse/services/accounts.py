"""Accounts: taking on a user, changing a password, shutting one out, letting one go.

Invariants:
  1. A new password is kept as SCRAM-SHA-256 keys and an argon2id hash, and ``clear`` is empty then.
  2. A maildir stays below the mail root and belongs to one account, whatever the address looks like.
  3. Mail is deleted only when that is asked for.
"""

import os
import pwd
import re
import secrets
import shutil

from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account
from posthouse.message.address import split
from posthouse.services.changes import NotChanged, address_key
from posthouse.services.passwords import new_secrets

DEFAULT_OWNER = 1001
"""The uid and gid of classic set-ups' mail."""

_UNAMBIGUOUS = "abcdefghjkmnpqrstuvwxyz23456789"
_QUOTA = re.compile(r"|\d{1,18}|\d{1,18}[SC](,\d{1,18}[SC])?")
_UNSAFE = re.compile(rb"^\.|[^a-z0-9.=+_-]")


def random_password() -> str:
    """Twenty characters that can be read out, 98 bits."""
    return "-".join("".join(secrets.choice(_UNAMBIGUOUS) for _ in range(5)) for _ in range(4))


async def add(
    directory: Directory,
    settings: Settings,
    address: str,
    password: str,
    *,
    name: str = "",
    quota: str = "",
    who: str = "posthouse",
) -> Account:
    """A new account in a hosted domain. Raises ``NotChanged``."""
    key = address_key(address)
    if not _QUOTA.fullmatch(quota):
        raise NotChanged(f"{quota!r} is not a quota: expected bytes, as in 10485760, or 10485760S,1000C")
    uid, gid = _owner(settings)
    account = Account(key, name, uid, gid, "", maildir(key), quota, enabled=True)
    scram, argon2id = _secrets(password)
    async with directory.change(who, "account add", key) as tables:
        domain = split(key)[1]
        if not await directory.is_hosted(domain):
            raise NotChanged(f"{domain} is not hosted here: 'posthouse domain add {domain}' first")
        if await directory.account(key):
            raise NotChanged(f"{key} exists already")
        if await tables.has_maildir(account.maildir):
            raise NotChanged(f"{key}: another account has the maildir {account.maildir}")
        await tables.add_account(account)
        await tables.set_secrets(key, scram, argon2id)
    return account


async def set_password(directory: Directory, address: str, password: str, *, who: str = "posthouse") -> Account:
    """A new password; the old one, in ``clear`` or not, is no longer valid. Raises ``NotChanged``."""
    scram, argon2id = _secrets(password)
    async with directory.change(who, "account passwd", address_key(address)) as tables:
        account = await _existing(directory, address)
        await tables.set_secrets(account.email, scram, argon2id)
    return account


async def enable(directory: Directory, address: str, *, enabled: bool, who: str = "posthouse") -> Account:
    """Allow, or no longer allow, both delivery and login. Raises ``NotChanged``."""
    what = "account enable" if enabled else "account disable"
    async with directory.change(who, what, address_key(address)) as tables:
        account = await _existing(directory, address)
        if account.enabled == enabled:
            raise NotChanged(f"{account.email} is already {'enabled' if enabled else 'disabled'}")
        await tables.enable_account(account.email, enabled=enabled)
    return account


async def remove(
    directory: Directory, settings: Settings, address: str, *, delete_mail: bool = False, who: str = "posthouse"
) -> str:
    """Remove an account; where its mail is, or was with ``delete_mail``. Raises ``NotChanged``, ``OSError``."""
    detail = "with its mail" if delete_mail else ""
    async with directory.change(who, "account remove", address_key(address), detail) as tables:
        account = await _existing(directory, address)
        path, is_below_root = _mail_path(settings, account)
        if delete_mail and not is_below_root:
            raise NotChanged(f"{account.email}: maildir {account.maildir!r} is not below the mail root")
        await tables.remove_account(account.email)
    if delete_mail:
        _delete(path)
    return path


async def listing(directory: Directory) -> list[Account]:
    """Every account, by address."""
    return await directory.tables().accounts()


def maildir(key: str) -> str:
    """Where an address's mail lies below the mail root; no two addresses share it. Raises ``NotChanged``."""
    local, domain = split(key)
    if local.startswith('"') or domain.startswith("["):
        raise NotChanged(f"{key}: no account can have a quoted name, or an address literal for a domain")
    # What could mean something to a shell or a file system stands as %XX, a leading dot included.
    return f"{domain}/{_UNSAFE.sub(lambda octet: b'%%%02X' % ord(octet[0]), local.encode()).decode()}/"


def _mail_path(settings: Settings, account: Account) -> tuple[str, bool]:
    """Where an account's mail is, and whether that is below the mail root, links followed."""
    root = os.path.realpath(settings.path(settings.mail.root))
    path = os.path.realpath(os.path.join(root, account.maildir))
    return path, path.startswith(root + os.sep)


def _delete(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)


async def _existing(directory: Directory, address: str) -> Account:
    account = await directory.account(address_key(address))
    if account is None:
        raise NotChanged(f"{address}: there is no such account; 'posthouse account list' shows them")
    return account


def _secrets(password: str) -> tuple[str, str]:
    try:
        return new_secrets(password)
    except ValueError as error:
        raise NotChanged(str(error)) from None


def _owner(settings: Settings) -> tuple[int, int]:
    """Whom new mail belongs to: who we are, or will serve as; the classic default where that is root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    if settings.user:
        entry = pwd.getpwnam(settings.user)
        return entry.pw_uid, entry.pw_gid
    return DEFAULT_OWNER, DEFAULT_OWNER
