"""Everything about one account: where its mail goes, what it may have, what it can log in with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account, Actor, Explanation
from posthouse.directory.records import KeptAppPassword
from posthouse.message.address import split
from posthouse.services import access, aliases
from posthouse.services.accounts import existing, mail_path
from posthouse.services.changes import address_key
from posthouse.services.passwords import split_scheme
from posthouse.store import quota

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account's mail was last counted as."""

    size_bytes: int
    messages: int


@dataclass(frozen=True, slots=True)
class Overview:
    """``password`` says how it is kept, never what it is; ``aliases`` are keys that lead here.

    ``used`` is None without a quota, and where nothing has been counted yet.
    """

    account: Account
    path: str
    used: Usage | None
    domain_enabled: bool
    password: str
    forward: tuple[str, ...]
    aliases: tuple[str, ...]
    app_passwords: tuple[KeptAppPassword, ...]
    has_totp: bool
    administers: tuple[str, ...]
    mail: Explanation


async def show(directory: Directory, settings: Settings, address: str, *, actor: Actor) -> Overview:
    """One account. Raises ``NotChanged`` where there is none."""
    key = address_key(address)
    access.check(actor, split(key)[1])

    async def work(tables: "Tables") -> Overview:
        account = await existing(tables, key)
        is_ours = tables.are_ours("users")
        leading = await tables.leading_to("virtual", key) if tables.are_ours("virtual") else []
        forward = await tables.destinations("virtual", key) if tables.are_ours("virtual") else []
        return Overview(
            account,
            mail_path(settings, account)[0],
            _used(settings, account),
            (await tables.domain_settings(split(key)[1])).enabled,
            await _password(tables, key, plain_crypt=settings.auth.plain_crypt) if is_ours else "another program's",
            tuple(aliases.parts(forward)),
            tuple(dict.fromkeys(row.key.lower() for row in leading if row.key.lower() != key)),
            tuple(await tables.app_passwords(key)),
            bool(await tables.totp_secret(key)),
            tuple(sorted(await tables.administered(key))),
            await tables.explain(key),
        )

    return await directory.read(work)


def _used(settings: Settings, account: Account) -> Usage | None:
    """Only what is counted already: whoever asks may be root, whose files an account can't have in its Maildir."""
    path, is_below_root = mail_path(settings, account)
    limit = quota.parse(account.quota)
    if limit is None or not is_below_root:
        return None
    try:
        counted = quota.used(path, limit)
    except OSError:
        return None
    return Usage(*counted) if counted else None


async def _password(tables: "Tables", key: str, *, plain_crypt: bool) -> str:
    (row, *_) = await tables.stored([key])
    kept = [name for name, value in (("SCRAM-SHA-256", row.scram_sha256), ("ARGON2ID", row.argon2id)) if value]
    if row.clear:
        scheme = split_scheme(row.clear, plain_crypt=plain_crypt)[0]
        kept.append("plain text in clear" if scheme in ("PLAIN", "CLEAR", "CLEARTEXT") else f"{{{scheme}}} in clear")
    return " and ".join(kept) or "none"
