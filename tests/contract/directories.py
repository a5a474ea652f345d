"""A directory for contract tests: a database of its own with the schema in it, and a clock that stands still."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from posthouse.base.errors import Refused, TryLater
from posthouse.config.settings import Settings
from posthouse.directory.database import PLACEHOLDERS
from posthouse.directory.directory import Directory
from posthouse.directory.migrations import OverTransaction, migrate
from posthouse.directory.model import ToHost, ToMailbox
from posthouse.directory.servers import Servers
from posthouse.directory.version import classic

KEYS = {"virtual": "email", "relocated": "email", "transport": "domain", "alias": "alias", "users": "email"}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class House:
    """A directory with a.test and b.test hosted, and raw SQL for its rows."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.directory = Directory(settings, self.clock)
        self.database = self.directory.database

    async def open(self) -> None:
        if isinstance(self.database, Servers):
            await self.database.open()
            wanted = classic(self.settings.database)
            await self.database.transaction(lambda transaction: migrate(OverTransaction(transaction), wanted=wanted))
            await self.database.close()
        await self.directory.open()

    async def run(self, text: str, *parameters: object) -> int:
        """One statement; ``{}`` stand for the parameters. What is known is kept."""
        parts = text.replace("%", "%%" if self.database.dialect == "mysql" else "%").split("{}")
        marks = [PLACEHOLDERS[self.database.dialect](number) for number in range(1, len(parts))]
        sql = "".join(part + mark for part, mark in zip(parts, [*marks, ""], strict=True))
        return await self.database.run(sql, parameters)

    async def row(self, table: str, key: object, destination: object) -> None:
        quote = "`" if self.database.dialect == "mysql" else '"'
        await self.run(
            f"INSERT INTO {quote}{table}{quote} ({KEYS[table]}, destination) VALUES ({{}}, {{}})", key, destination
        )
        self.forget()

    async def user(self, email: str, maildir: str | None = None, **columns: object) -> None:
        local, _, domain = email.partition("@")
        values = {"email": email, "maildir": f"{domain}/{local}/" if maildir is None else maildir, **columns}
        marks = ", ".join("{}" for _ in values)
        await self.run(f"INSERT INTO users ({', '.join(values)}) VALUES ({marks})", *values.values())
        self.forget()

    def forget(self) -> None:
        self.directory._drop()

    async def goes_to(self, address: str) -> list[str]:
        return [_short(one) for one in (await self.directory.resolve(address)).destinations]

    async def said(self, address: str) -> str:
        """What a client is told: where it goes, or the reply."""
        try:
            return ", ".join(await self.goes_to(address))
        except (Refused, TryLater) as error:
            return str(error.reply)

    async def trouble(self, address: str) -> str:
        try:
            return ", ".join(await self.goes_to(address))
        except TryLater as error:
            return error.reason


def _short(destination) -> str:
    if isinstance(destination, ToMailbox):
        return destination.account.maildir
    if isinstance(destination, ToHost):
        return f"{destination.transport}:{destination.nexthop}:{destination.address}"
    return repr(destination)


def with_house(settings: Settings, test: Callable[[House], Awaitable[None]], **database: object) -> None:
    """Run ``test`` on a loop of its own."""

    async def body() -> None:
        house = House(replace(settings, database=replace(settings.database, **database)))
        await house.open()
        try:
            if not database:
                for domain in ("a.test", "b.test"):
                    await house.row("transport", domain, "virtual:")
            await test(house)
        finally:
            await house.directory.close()

    asyncio.run(body())
