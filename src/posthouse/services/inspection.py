"""Looking at a whole directory database: what is missing, doubtful or dangerous in it. Nothing is changed.

First the tables themselves, then each row by itself while it is copied to a file of ours, then all of them together:
duplicates, maildirs, loops, domains. Memory does not grow with the number of rows.
"""

import os
import pwd
from collections.abc import Callable, Sequence

from posthouse.config.settings import Settings
from posthouse.directory import presets
from posthouse.directory.database import Queries
from posthouse.directory.host import UnixUser
from posthouse.directory.presets import Source, Tables
from posthouse.directory.queries import Statements
from posthouse.directory.resolution import Resolver, Rules
from posthouse.directory.rows import SqlLookups, is_yes, text
from posthouse.directory.version import FIVE, classic, tables
from posthouse.message.address import lookup_key, split
from posthouse.services.crosschecks import check_together
from posthouse.services.findings import Finding, Tally
from posthouse.services.rowchecks import (
    Expected,
    UserRow,
    check_destination,
    check_key,
    check_password,
    check_user,
    normal_path,
)
from posthouse.services.shape import Shape, inspect_shape
from posthouse.services.tablecopy import TableCopy, folded, pages

Progress = Callable[[str, int], None]
"""Called now and then with what is being looked at, and how many of it have been."""
KEYED = ("virtual", "relocated", "transport", "alias")


async def inspect(queries: Queries, settings: Settings, progress: Progress = lambda *_: None) -> list[Finding]:
    """Everything that is to be said of the database, the worst first. Raises ``TryLater``."""
    return await _Inspection(queries, settings, progress).run()


class _NoHost:
    """What resolving asks of this host is not the tables' fault."""

    async def user(self, name: str) -> UnixUser | None:
        del name

    async def included(self, path: str) -> str:
        del path
        return ""


class _Inspection:
    def __init__(self, queries: Queries, settings: Settings, progress: Progress) -> None:
        self._queries = queries
        self._settings = settings
        self._progress = progress
        self._tables: Tables = presets.tables(settings.database)
        self._statements = Statements(queries.dialect, self._tables)
        self._tally = Tally()
        self._shapes: dict[str, Shape] = {}
        rules = Rules(
            settings.hostname.lower(),
            settings.smtp.recipient_delimiter,
            settings.smtp.catchall == "before-accounts",
            settings.mail.minimum_uid,
        )
        self._copy = TableCopy()
        lookups = SqlLookups(self._copy, Statements("sqlite", presets.POSTHOUSE), keeps_domains=True)
        self._resolver = Resolver(lookups, rules, _NoHost())
        self._expected = Expected(
            settings.mail.minimum_uid, _serving_uid(settings), settings.auth.plain_crypt, self._resolver.qualified
        )

    async def run(self) -> list[Finding]:
        try:
            self._progress("tables", 0)
            self._shapes = await inspect_shape(
                self._queries, self._tables, self._statements_for_missing(), self._tally
            )
            await self._copy_own()
            for role in KEYED:
                await self._copy_keyed(role, getattr(self._tables, role))
            await self._copy_users(self._tables.users)
            self._copy.index()
            await check_together(
                self._copy, self._resolver, self._settings, self._names(), self._tally, self._progress
            )
        finally:
            self._copy.close()
        return self._tally.findings()

    def _statements_for_missing(self) -> dict[str, str]:
        from posthouse.directory.migrations.words import classic as made

        dialect = self._queries.dialect
        return {name: "; ".join(made(name, dialect)) for name in FIVE if name in classic(self._settings.database)}

    def _names(self) -> dict[str, str]:
        """What the table of each role is called."""
        named = {role: (getattr(self._tables, role) or (Source(role, "", ()),))[0].table for role in KEYED}
        return {**named, "users": self._tables.users.table}

    async def _copy_own(self) -> None:
        """What we have ourselves, where that is there already."""
        present = await tables(self._queries)
        if "posthouse_credentials" in present:
            source = Source("posthouse_credentials", "email", ())
            async for page in pages(self._queries, self._statements, source, (), ""):
                self._copy.add("posthouse_credentials", [(text(row[1]).lower(), "", "") for row in page])
        if "posthouse_domains" in present:
            source = Source("posthouse_domains", "domain", ())
            async for page in pages(self._queries, self._statements, source, ("enabled",), ""):
                self._copy.add("posthouse_domains", [(text(row[1]), text(row[2])) for row in page])

    async def _copy_keyed(self, role: str, sources: Sequence[Source]) -> None:
        done = 0
        for source in sources:
            shape = self._shapes.get(source.table)
            if shape is None:
                continue
            collation = shape.collation(source.key) if shape.is_case_sensitive(source.key) else ""
            async for page in pages(
                self._queries, self._statements, source, source.values[:1], shape.id_column(source)
            ):
                rows = [self._keyed_row(role, source, collation, *row) for row in page]
                self._copy.add(role, rows)
                done += len(rows)
                self._progress(source.table, done)

    def _keyed_row(
        self,
        role: str,
        source: Source,
        collation: str,
        row_id: object,
        key: object,
        value: object,
    ) -> tuple[object, ...]:
        shown, destination = text(key), text(value)
        if source.prefix:
            shown, destination = source.prefix + shown, source.prefix + destination

        def found(kind: str, detail: str = "") -> None:
            self._tally.row(
                source.table, kind, row_id, f"{shown} -> {destination}" if kind in _SHOWN else shown, detail
            )

        check_key(role, shown, found, case_sensitive=collation)
        check_destination(role, shown, destination, self._expected, found)
        return (_text_id(row_id), shown.lower(), destination, self._target(destination), folded(shown))

    def _target(self, destination: str) -> str | None:
        """The key of the only address that a row leads to; None where it isn't that simple."""
        address = destination.strip()
        if not address or any(letter in address for letter in ',"|/:'):
            return None
        return lookup_key(self._resolver.qualified(address))

    async def _copy_users(self, source: Source) -> None:
        shape = self._shapes.get(source.table)
        if shape is None:
            return
        done = 0
        columns = (self._tables.password, *source.values)
        collation = shape.collation(source.key) if shape.is_case_sensitive(source.key) else ""
        async for page in pages(self._queries, self._statements, source, columns, shape.id_column(source)):
            rows = [self._user_row(source.table, collation, row[0], *map(text, row[1:])) for row in page]
            self._copy.add("users", rows)
            done += len(rows)
            self._progress(source.table, done)

    def _user_row(
        self, table: str, collation: str, row_id: object, key: str, password: str, *values: str
    ) -> tuple[object, ...]:
        name, uid, gid, homedir, maildir, quota, enabled = values

        def found(kind: str, detail: str = "") -> None:
            shown = {"low-uid": f"{key} ({uid or 'NULL'}:{gid or 'NULL'})", "bad-quota": f"{key} ({quota})"}.get(kind)
            if shown is None:
                shown = f"{key} ({maildir})" if kind in _SHOWN else key
            self._tally.row(table, kind, row_id, shown, detail)

        check_key("users", key, found, case_sensitive=collation)
        check_user(UserRow(password, uid, gid, maildir, quota), self._expected, found)
        if password:
            check_password(password, self._expected, found)
        return (
            *(_text_id(row_id), key.lower(), "", name, uid, gid, homedir, maildir, quota),
            "y" if is_yes(enabled) else "n",
            split(key.lower())[1],
            normal_path(maildir),
            int(bool(password)),
            folded(key),
        )


_SHOWN = frozenset({"bad-destination", "host-programs", "unknown-transport", "maildir-outside", "mbox"})
"""Findings that show a row's value beside its key."""


def _text_id(row_id: object) -> str | None:
    return None if row_id is None else str(row_id)


def _serving_uid(settings: Settings) -> int:
    """The uid of the user who serves; -1 where that is root, who may do everything, or isn't known here."""
    if settings.user:
        try:
            return pwd.getpwnam(settings.user).pw_uid
        except KeyError:
            return -1
    return os.geteuid() or -1
