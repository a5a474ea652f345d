"""Whole databases: making one, looking one over, taking one over as it is, and moving its schema forward or back.

Invariants:
  1. The five tables are made where they are missing and ours to make, and never altered or dropped.
  2. Adopting adds tables of ours and changes nothing else; what makes a database unusable stops it before that.
"""

import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import insert

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.directory import presets, version
from posthouse.directory.database import Database, Transaction
from posthouse.directory.migrations import HEAD, OverTransaction, migrate, plan, revision_text
from posthouse.directory.migrations.file import upgrade_file
from posthouse.directory.model import Actor
from posthouse.directory.queries import Statements
from posthouse.directory.schema import audit, credentials
from posthouse.directory.servers import Servers, ServerStatus
from posthouse.directory.sqlite import SCHEME, SqliteDatabase
from posthouse.directory.tables.base import now
from posthouse.services.changes import NotChanged
from posthouse.services.findings import Finding
from posthouse.services.inspection import Progress, inspect

_DROPPED = re.compile(r"DROP TABLE IF EXISTS (\w+)")


def _silent(what: str, done: int) -> None:
    del what, done


@dataclass(frozen=True, slots=True)
class Report:
    """A database as it was found. ``schema``: its revision, "base" where its making was interrupted, or empty."""

    database: str
    servers: tuple[ServerStatus, ...]
    schema: str
    advice: str
    findings: tuple[Finding, ...]

    @property
    def is_fine(self) -> bool:
        return (
            not self.advice
            and all(finding.severity == "note" for finding in self.findings)
            and all(server.state != "down" for server in self.servers)  # a replica may be read-only
            and (not self.servers or any(server.state == "up" for server in self.servers))
        )


@dataclass(frozen=True, slots=True)
class Adoption:
    """What an adoption found, and the tables that it made; ``is_refused``: none, because of errors."""

    database: str
    findings: tuple[Finding, ...]
    made: tuple[str, ...]
    is_refused: bool


@dataclass(frozen=True, slots=True)
class Move:
    """A change of schema: where it leads, each revision on the way with what it is about, and the rows it loses.

    ``passwords``: how many accounts have no other password than one it loses; None: that can't be counted.
    """

    database: str
    current: str
    target: str
    steps: tuple[tuple[str, str], ...]
    losses: tuple[tuple[str, int], ...]
    passwords: int | None = 0


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Servers | SqliteDatabase]:
    """The database as it is, whatever its schema. Raises ``TryLater``."""
    if settings.database.url.startswith(SCHEME):
        database: Servers | SqliteDatabase = SqliteDatabase(settings)
        await database.open(as_it_is=True)
    else:
        database = Servers(settings)
        await database.open()
    try:
        yield database
    finally:
        await database.close()


async def init(settings: Settings) -> tuple[str, list[str]]:
    """Make everything in an empty database: its name and the tables made. Raises ``NotChanged``, ``TryLater``."""
    if settings.database.url.startswith(SCHEME):
        SqliteDatabase(settings).make_file()
    async with opened(settings) as database:
        present = await version.tables(database)
        schema = await version.found_version(database)
        if schema is None and present:
            raise NotChanged(f"{database.name} is not empty, it has {_some(sorted(present))}: 'posthouse db adopt' "
                             "takes existing tables over")  # fmt: skip
        if schema == HEAD:
            return database.name, []
        return database.name, await _migrate(settings, database, HEAD, make=True)


async def check(settings: Settings, progress: Progress = _silent) -> Report:
    """Look at servers, schema and every row. Raises ``TryLater`` where nothing can be looked at."""
    async with opened(settings) as database:
        schema = await version.found_version(database)
        advice = ""
        try:
            await version.check(database)
        except TryLater as error:
            advice = error.reason
        findings = await inspect(database, settings, progress) if await version.tables(database) else []
        servers = database.status() if isinstance(database, Servers) else ()
        return Report(database.name, servers, version.BASE if schema == "" else schema or "", advice, tuple(findings))


async def adopt(settings: Settings, *, actor: Actor, dry_run: bool = False, progress: Progress = _silent) -> Adoption:
    """Take an existing database over. Raises ``NotChanged`` where there is nothing to adopt, and ``TryLater``."""
    async with opened(settings) as database:
        schema = await version.found_version(database)
        if schema not in (None, "", HEAD):
            raise NotChanged(f"{database.name} is Posthouse's already, with schema {schema}: 'posthouse db upgrade'")
        if not await version.tables(database):
            raise NotChanged(f"{database.name} is empty: 'posthouse db init' makes the tables")
        findings = tuple(await inspect(database, settings, progress))
        is_refused = any(finding.severity == "error" for finding in findings)
        made: list[str] = []
        if not is_refused and not dry_run and schema != HEAD:
            made = await _migrate(settings, database, HEAD, make=False)
            await _audit(database, actor, f"made {', '.join(made)}")
        return Adoption(database.name, findings, tuple(made), is_refused)


async def _audit(database: Database, actor: Actor, detail: str) -> None:
    values = {"when": now(), "who": actor.name, "what": "db adopt", "object": database.name, "detail": detail}

    async def work(transaction: Transaction) -> None:
        await transaction.execute(insert(audit), [{**values, "source": actor.source}])

    await database.transaction(work)


async def plan_move(settings: Settings, target: str = HEAD) -> Move:
    """What going to ``target`` means. Raises ``NotChanged``, ``TryLater``."""
    async with opened(settings) as database:
        current = await version.found_version(database)
        if not current and target != version.BASE:
            await version.check(database)
        steps = plan(database.dialect, current or version.BASE, target)
        present = await version.tables(database)
        losses: list[tuple[str, int]] = []
        for dropped in (_DROPPED.match(statement) for step in steps for statement in step.statements):
            if dropped and dropped[1] in present:
                ((count,),) = await database.query(f"SELECT COUNT(*) FROM {dropped[1]}")  # noqa: S608 - one of ours
                losses.append((dropped[1], int(count)))
        shown = tuple(
            (step.revision, "" if step.revision == version.BASE else revision_text(step.revision)) for step in steps
        )
        is_lost = any(table == credentials.name for table, _ in losses)
        passwords = await _own_passwords(settings, database) if is_lost else 0
        return Move(database.name, current or version.BASE, target, shown, tuple(losses), passwords)


async def _own_passwords(settings: Settings, database: Database) -> int | None:
    statements = Statements(database.dialect, presets.tables(settings.database))
    try:
        ((count,),) = await database.query(statements.own_passwords())
    except TryLater:  # such as no table of accounts where the configuration says; what is ours can be dropped still
        return None
    return int(count)


async def move(settings: Settings, target: str = HEAD) -> list[str]:
    """Bring the schema to ``target``; the tables made or dropped. Raises ``TryLater``."""
    async with opened(settings) as database:
        return await _migrate(settings, database, target, make=False)


async def _migrate(settings: Settings, database: Database, target: str, *, make: bool) -> list[str]:
    wanted = version.classic(settings.database) if make else frozenset[str]()
    if isinstance(database, SqliteDatabase):
        try:
            connection = sqlite3.connect(database.path, timeout=60.0, isolation_level=None)
            try:
                return upgrade_file(connection, database.path, wanted, target)
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise TryLater(f"{database.name}: {error}") from error

    async def work(transaction: Transaction) -> list[str]:
        return await migrate(OverTransaction(transaction), target, wanted)

    try:
        return await database.transaction(work)
    except TryLater as error:
        if database.name in error.reason:
            raise
        raise TryLater(f"{database.name}: {error.reason}") from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
