"""Accounts: the rows of ``users``, and what they can log in with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from posthouse.directory import schema
from posthouse.directory.model import Account, AppPassword
from posthouse.directory.records import PAGE_ROWS, START, AccountRow, Cursor, KeptAppPassword, account, text
from posthouse.directory.tables.base import chunks, domain_of, now
from posthouse.directory.tables.sending import SendingRows
from posthouse.message.address import lookup_key

_users = schema.users
_credentials = schema.credentials
_app_passwords = schema.app_passwords
_totp = schema.totp


class AccountRows(SendingRows):
    """Accounts are given by their address in lower case, whatever case it has in the table."""

    async def account(self, address: str) -> Account | None:
        """The account whose address this is, enabled or not."""
        key = lookup_key(address)
        if "users" in self.foreign:
            rows = await self.resolver.lookups.find([self.resolver.keys(key)])
            return next(iter(rows.accounts.get(key, ())), None)
        return next((found.account for found in await self.stored([key])), None)

    async def stored(self, keys: Iterable[str]) -> list[AccountRow]:
        """The rows of these accounts, with what they can log in with."""
        self.check_ours("users")
        return await self._with_secrets(await self.rows_of(_users, keys))

    async def existing(self, keys: Iterable[str]) -> dict[str, int]:
        """Which of these accounts there are: address in lower case to id."""
        self.check_ours("users")
        return {text(row[1]).lower(): row[0] for row in await self.rows_of(_users, keys)}

    async def accounts(
        self, after: Cursor = START, *, limit: int = PAGE_ROWS, domain: str = "", with_secrets: bool = False
    ) -> list[tuple[Cursor, AccountRow]]:
        """The next accounts by address, with where to go on after each; of one ``domain`` or of all.

        None: there are no more. ``with_secrets``: also what they can log in with.
        """
        self.check_ours("users")
        found = await self.page(_users, tuple(_users.c), after, limit, domain)
        if not with_secrets:
            return [(at, AccountRow(at.id, _account(row))) for at, row in found]
        rows = await self._with_secrets([row for _, row in found])
        return [(at, row) for (at, _), row in zip(found, rows, strict=True)]

    async def _with_secrets(self, rows: Sequence[tuple[Any, ...]]) -> list[AccountRow]:
        own: dict[str, tuple[str, str]] = {}
        for few in chunks([text(row[1]).lower() for row in rows]):
            statement = select(_credentials.c.email, _credentials.c.scram_sha256, _credentials.c.argon2id)
            for email, scram, argon2id in await self.execute(statement.where(_credentials.c.email.in_(few))):
                own[email] = (scram, argon2id)
        return [
            AccountRow(row[0], _account(row), text(row[2]), *own.get(text(row[1]).lower(), ("", ""))) for row in rows
        ]

    async def count_accounts(self, domain: str) -> int:
        """How many accounts a domain has."""
        self.check_ours("users")
        emails = await self._emails(domain)
        return len(emails)

    async def quotas(self, domain: str) -> dict[str, str]:
        """The quota of each of a domain's accounts, by address in lower case."""
        self.check_ours("users")
        statement = select(_users.c.email, _users.c.quota).where(self.in_domain(_users.c.email, domain))
        found = {text(email).lower(): text(quota) for email, quota in await self.execute(statement)}
        return {email: quota for email, quota in found.items() if domain_of(email) == domain}

    async def _emails(self, domain: str) -> list[str]:
        statement = select(_users.c.email).where(self.in_domain(_users.c.email, domain))
        return [email for (email,) in await self.execute(statement) if domain_of(text(email)) == domain]

    async def with_maildirs(self, maildirs: Iterable[str]) -> dict[str, str]:
        """Accounts that have one of these maildirs, with a final slash or without: maildir without it to address."""
        self.check_ours("users")
        wanted = {maildir.rstrip("/") for maildir in maildirs}
        found: dict[str, str] = {}
        for few in chunks(sorted(wanted)):
            spellings = [name for maildir in few for name in (maildir, f"{maildir}/")]
            statement = select(_users.c.maildir, _users.c.email).where(_users.c.maildir.in_(spellings))
            for maildir, email in await self.execute(statement):
                if (plain := text(maildir).rstrip("/")) in wanted:
                    found[plain] = text(email)
        return found

    async def add_account(self, new: Account, clear: str = "") -> None:
        await self.add_accounts([(new, clear)])

    async def add_accounts(self, new: Sequence[tuple[Account, str]]) -> None:
        """New accounts and what ``clear`` is to hold for each.

        What somebody of the same address had, whose row was deleted by hand, is not theirs.
        """
        self.check_ours("users")
        if new:
            await self._forget([one.email for one, _ in new])
            await self.execute(insert(_users), [_values(one, clear) for one, clear in new])

    async def change_account(self, email: str, **columns: Any) -> None:
        """Set columns of ``users``."""
        self.check_ours("users")
        for row_id in (await self.existing([email])).values():
            await self.execute(update(_users).where(_users.c.id == row_id).values(**columns))

    async def change_accounts(self, changes: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Set columns of rows of ``users``, by id: the same columns in each."""
        self.check_ours("users")
        if changes and changes[0][1]:
            names = changes[0][1]
            statement = update(_users).where(_users.c.id == bindparam("row_id"))
            statement = statement.values({name: bindparam(f"new_{name}") for name in names})
            rows = [{"row_id": row, **{f"new_{n}": value for n, value in new.items()}} for row, new in changes]
            await self.execute(statement, rows)

    async def remove_account(self, email: str) -> None:
        """Remove an account and all that it could log in with, or administer."""
        self.check_ours("users")
        ids = [row[0] for row in await self.rows_of(_users, [email])]
        await self.delete_ids(_users, ids)
        await self._forget([email])

    async def _forget(self, emails: Sequence[str]) -> None:
        for table in (_credentials, _app_passwords, _totp, schema.admins):
            for few in chunks([email.lower() for email in emails]):
                await self.execute(delete(table).where(table.c.email.in_(few)))
        await self.forget_sending([email.lower() for email in emails])

    async def set_secrets(self, email: str, scram_sha256: str, argon2id: str) -> None:
        """New secrets for an account; the password in ``clear``, if there is one, is no longer valid."""
        await self.change_account(email, clear="")
        await self.put_secrets({email: (scram_sha256, argon2id)})

    async def put_secrets(self, secrets: Mapping[str, tuple[str, str]]) -> None:
        """Have these SCRAM-SHA-256 keys and argon2id hashes for accounts, by address; both empty: have none."""
        keys = {email.lower(): both for email, both in secrets.items()}
        for few in chunks(sorted(keys)):
            await self.execute(delete(_credentials).where(_credentials.c.email.in_(few)))
        rows = [
            {"email": email, "scram_sha256": scram, "argon2id": argon2id}
            for email, (scram, argon2id) in keys.items()
            if scram or argon2id
        ]
        if rows:
            await self.execute(insert(_credentials), rows)

    # App passwords and TOTP

    async def app_passwords(self, email: str) -> list[KeptAppPassword]:
        """An account's app passwords, oldest first."""
        columns = (_app_passwords.c[name] for name in ("id", "name", "scopes", "created", "last_used", "last_peer"))
        statement = select(*columns).where(_app_passwords.c.email == email.lower()).order_by(_app_passwords.c.id)
        return [
            KeptAppPassword(row[0], row[1], tuple(filter(None, row[2].split(","))), *row[3:])
            for row in await self.execute(statement)
        ]

    async def add_app_password(self, email: str, new: AppPassword) -> None:
        """Keep a new one; its ``id`` is the database's to give."""
        values = {
            "email": email.lower(),
            "name": new.name,
            "scopes": ",".join(sorted(new.scopes)),
            "hash": new.hash,
            "created": now(),
            "last_used": "",
            "last_peer": "",
        }
        await self.execute(insert(_app_passwords), [values])

    async def remove_app_password(self, row_id: int) -> None:
        await self.delete_ids(_app_passwords, [row_id])

    async def totp_secret(self, email: str) -> str:
        """An account's TOTP secret in base32; empty where it has none."""
        statement = select(_totp.c.secret).where(_totp.c.email == email.lower())
        return next((row[0] for row in await self.execute(statement)), "")

    async def set_totp_secret(self, email: str, secret: str) -> None:
        """Have this secret; empty: none."""
        await self.execute(delete(_totp).where(_totp.c.email == email.lower()))
        if secret:
            await self.execute(insert(_totp), [{"email": email.lower(), "secret": secret, "created": now()}])


def _account(row: Sequence[Any]) -> Account:
    """A row with all columns of ``users``."""
    return account((row[1], *row[3:]))


def _values(new: Account, clear: str) -> dict[str, Any]:
    return {
        "email": new.email,
        "clear": clear,
        "name": new.name,
        "uid": new.uid,
        "gid": new.gid,
        "homedir": new.homedir,
        "maildir": new.maildir,
        "quota": new.quota,
        "postfix": "y" if new.enabled else "n",
    }
