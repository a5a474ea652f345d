"""Accounts from a CSV file.

``email`` is the one column that a file needs. ``clear`` is stored as it is, plain or a hash; ``password`` is hashed
here; ``scram_sha256`` and ``argon2id`` are what an export with secrets has. An account without any of these can't
log in until it is given a password.
"""

import asyncio
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account, Actor
from posthouse.directory.records import AccountRow, Cursor, DomainSettings
from posthouse.protocols.sasl.prepare import password_bytes
from posthouse.services import access, quotas
from posthouse.services.accounts import maildir, owner
from posthouse.services.changes import NotChanged, address_key, pages
from posthouse.services.csvlines import WHOLE_FILE, Line, Problem
from posthouse.services.importing import Existing, Imported, Remembered
from posthouse.services.passwords import MAX_PASSWORD_BYTES, new_secrets

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

COLUMNS = ("email", "name", "quota", "uid", "gid", "homedir", "maildir", "enabled")
SECRETS = ("clear", "scram_sha256", "argon2id")
_PLACES = frozenset({"uid", "gid", "homedir", "maildir"})
"""What leads to files: not for those who administer only some domains."""
_COLUMN_OF = {"enabled": "postfix"}
_YES_NO = {"": True, "y": True, "yes": True, "1": True, "n": False, "no": False, "0": False}
_MAX_CLEAR = 1000


@dataclass(slots=True)
class AccountLine:
    """A line's account; ``quota`` is None where the domain's default applies."""

    number: int
    account: Account
    quota: str | None
    clear: str
    password: str
    secrets: tuple[str, str]


@dataclass
class AccountImporter:
    """Into ``users`` and the table of our own secrets."""

    settings: Settings
    actor: Actor
    existing: Existing
    name: str = "accounts"
    columns: tuple[str, ...] = (*COLUMNS, *SECRETS, "password")
    required: tuple[str, ...] = ("email",)
    batch_lines: int = 5_000
    _given: frozenset[str] = frozenset()
    _owner: tuple[int, int] = (0, 0)
    _seen: Remembered = field(default_factory=Remembered)
    _domains: dict[str, DomainSettings | None] = field(default_factory=dict)
    _new: Counter[str] = field(default_factory=Counter)
    _quotas: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def begin(self, columns: Sequence[str]) -> None:
        self._given = frozenset(columns)
        self._owner = owner(self.settings)
        if self.actor.domains is not None and (places := sorted(self._given & _PLACES)):
            raise NotChanged(f"{self.actor.name} may not say where accounts have their files: {', '.join(places)}")
        if "password" in self._given:
            self.batch_lines = 250  # hashing takes its time: every few seconds something is done for good

    def parse(self, line: Line) -> AccountLine:
        values = line.values
        key = address_key(values["email"].strip())
        access.check(self.actor, key.rpartition("@")[2])
        enabled = _YES_NO.get(values.get("enabled", "").strip().lower())
        if enabled is None:
            raise NotChanged(f"enabled is {values['enabled']!r}: expected y or n")
        given = values.get("quota", "").strip()
        account = Account(
            key,
            values.get("name", "").strip(),
            self._id(values, "uid", self._owner[0]),
            self._id(values, "gid", self._owner[1]),
            values.get("homedir", "").strip(),
            _maildir(key, values.get("maildir", "").strip()),
            "",
            enabled,
        )
        quota = quotas.quota_text(given) if given else None
        secrets = (values.get("scram_sha256", ""), values.get("argon2id", ""))
        return AccountLine(line.number, account, quota, *_passwords(values, secrets), secrets)

    def _id(self, values: dict[str, str], column: str, default: int) -> int:
        text = values.get(column, "").strip()
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise NotChanged(f"{column} is {text!r}: expected a number")
        if int(text) < self.settings.mail.minimum_uid:
            raise NotChanged(f"{column} {text} is below mail.minimum_uid, {self.settings.mail.minimum_uid}")
        return int(text)

    async def check(self, tables: "Tables", lines: Sequence[AccountLine]) -> list[Problem]:
        problems: dict[int, str] = {}
        for number, other in self._seen.add("email", [(one.account.email, one.number) for one in lines]).items():
            problems[number] = f"line {other} has the same address"
        own = [(_plain(one.account.maildir), one.number) for one in lines if one.number not in problems]
        for number, other in self._seen.add("maildir", own).items():
            problems[number] = f"line {other} has the same maildir"
        there = await tables.existing([one.account.email for one in lines])
        for one in lines:
            if text := await self._check(tables, one, is_there=one.account.email in there):
                problems.setdefault(one.number, text)
        return [Problem(number, text) for number, text in problems.items()]

    async def _check(self, tables: "Tables", line: AccountLine, *, is_there: bool) -> str:
        domain = line.account.email.rpartition("@")[2]
        if domain not in self._domains:
            hosted = await tables.is_hosted(domain)
            self._domains[domain] = await tables.domain_settings(domain) if hosted else None
        limits = self._domains[domain]
        if limits is None:
            return f"{domain} is not hosted here: 'posthouse domain add {domain}' first"
        if is_there and self.existing is not Existing.UPDATE:
            return f"{line.account.email} exists already" if self.existing is Existing.REFUSE else ""
        if not is_there:
            self._new[domain] += 1
        if limits.total_quota_bytes is not None and (not is_there or "quota" in self._given):
            self._quotas[domain][line.account.email] = self._quota(line)
        return ""

    async def check_all(self, directory: Directory) -> list[Problem]:
        problems = [problem async for problem in self._check_maildirs(directory)]
        for domain, limits in self._domains.items():
            if limits and (self._new[domain] or domain in self._quotas):
                try:
                    await self._check_room(directory, domain, limits)
                except NotChanged as error:
                    problems.append(Problem(WHOLE_FILE, error.reason))
        return problems

    async def _check_room(self, directory: Directory, domain: str, limits: DomainSettings) -> None:
        async def work(tables: "Tables") -> None:
            present = await tables.count_accounts(domain) if limits.max_accounts is not None else 0
            if (
                limits.max_accounts is not None
                and self._new[domain]
                and present + self._new[domain] > limits.max_accounts
            ):
                raise NotChanged(
                    f"{domain} has {present} accounts and may have {limits.max_accounts}, the file has "
                    f"{self._new[domain]} new ones: 'posthouse domain set {domain} --max-accounts N' allows more"
                )
            if domain in self._quotas:
                await quotas.check_room(tables, domain, limits, self._quotas[domain], are_new=False)

        await directory.read(work)

    async def _check_maildirs(self, directory: Directory):
        """All accounts are looked through once: ``maildir`` has no index."""

        async def page(tables: "Tables", after: Cursor) -> list[tuple[Cursor, AccountRow]]:
            return await tables.accounts(after)

        async for rows in pages(directory, page):
            owners = {_plain(row.account.maildir): row.account.email.lower() for row in rows}
            taken = self._seen.lines("maildir", owners)
            if not taken:
                continue
            lines = self._seen.lines("email", [owners[name] for name in taken])
            for name, number in taken.items():
                if lines.get(owners[name]) != number:
                    yield Problem(number, f"{owners[name]} has the same maildir")

    async def prepare(self, lines: Sequence[AccountLine]) -> None:
        """Hash passwords, on all cores: the hash functions leave Python's lock to others."""
        wanted = [line for line in lines if line.password]
        if not wanted:
            return
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            hashed = [loop.run_in_executor(pool, new_secrets, line.password) for line in wanted]
            for line, secrets in zip(wanted, await asyncio.gather(*hashed), strict=True):
                line.secrets = secrets

    def close(self) -> None:
        self._seen.close()

    async def store(self, tables: "Tables", lines: Sequence[AccountLine]) -> Imported:
        there = await tables.existing([line.account.email for line in lines])
        new = [line for line in lines if line.account.email not in there]
        old = [line for line in lines if line.account.email in there]
        if old and self.existing is Existing.REFUSE:
            raise NotChanged(f"line {old[0].number}: {old[0].account.email} exists already")
        await tables.add_accounts([(replace(line.account, quota=self._quota(line)), line.clear) for line in new])
        changing = old if self.existing is Existing.UPDATE else []
        await self._update(tables, changing, there)
        secrets = {line.account.email: line.secrets for line in (*new, *changing) if _has_secret(line)}
        await tables.put_secrets(secrets)
        return Imported(len(new), len(changing), len(old) - len(changing))

    async def _update(self, tables: "Tables", lines: Sequence[AccountLine], ids: dict[str, int]) -> None:
        names = [name for name in COLUMNS[1:] if name in self._given]
        rows = [
            (ids[line.account.email], {_COLUMN_OF.get(n, n): self._value(line, n) for n in names}) for line in lines
        ]
        await tables.change_accounts(rows)
        cleared = [(ids[line.account.email], {"clear": line.clear}) for line in lines if _has_secret(line)]
        await tables.change_accounts(cleared)

    def _value(self, line: AccountLine, name: str) -> object:
        if name == "quota":
            return self._quota(line)
        if name == "enabled":
            return "y" if line.account.enabled else "n"
        return getattr(line.account, name)

    def _quota(self, line: AccountLine) -> str:
        limits = self._domains.get(line.account.email.rpartition("@")[2])
        return line.quota if line.quota is not None else limits.default_quota if limits else ""


def _maildir(key: str, given: str) -> str:
    if not given:
        return maildir(key)
    if given.startswith("/") or ".." in given.split("/") or _plain(given) in (".", ""):
        raise NotChanged(f"maildir {given!r} is not a path below the mail root")
    return given


def _plain(path: str) -> str:
    return posixpath.normpath(path)


def _passwords(values: dict[str, str], secrets: tuple[str, str]) -> tuple[str, str]:
    """``clear`` and ``password`` of a line."""
    clear, password = values.get("clear", ""), values.get("password", "")
    if password and (clear or any(secrets)):
        raise NotChanged("a line has either password, to be hashed, or what is stored as it is")
    if len(clear) > _MAX_CLEAR or any(len(secret) > _MAX_CLEAR for secret in secrets):
        raise NotChanged(f"a stored password has at most {_MAX_CLEAR} characters")
    if any(secrets) and not all(secrets):
        raise NotChanged("scram_sha256 and argon2id go together")
    if password and not 0 < len(password_bytes(password)) <= MAX_PASSWORD_BYTES:
        raise NotChanged(f"a password has 1 to {MAX_PASSWORD_BYTES} octets")
    return clear, password


def _has_secret(line: AccountLine) -> bool:
    return bool(line.clear or any(line.secrets))
