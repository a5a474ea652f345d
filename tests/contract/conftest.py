"""One suite over all three databases."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from posthouse.config.settings import Database, Settings
from posthouse.directory.database import PLACEHOLDERS
from posthouse.directory.servers import Servers
from posthouse.directory.sqlite import SqliteDatabase


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def database(request, tmp_path) -> Settings:
    """Settings whose database is empty and for this test alone."""
    settings = Settings(hostname="mail.example.test", data_dir=str(tmp_path))
    if request.param == "sqlite":
        return settings
    return replace(settings, database=Database(url=request.getfixturevalue(request.param).url))


@pytest.fixture
def with_database(database):
    """``with_database(test)`` runs ``test(database)`` with the database open, on a loop of its own."""

    def run(test: Callable[..., Awaitable[None]]) -> None:
        async def body() -> None:
            opened = SqliteDatabase(database) if database.database.url.startswith("sqlite") else Servers(database)
            await opened.open()
            try:
                await test(opened)
            finally:
                await opened.close()

        asyncio.run(body())

    return run


def sql(database, text: str) -> str:
    """``{}`` in ``text`` become the placeholders of that database, in order."""
    parts = text.split("{}")
    marks = [PLACEHOLDERS[database.dialect](number) for number in range(1, len(parts))]
    return "".join(part + mark for part, mark in zip(parts, [*marks, ""], strict=True))
