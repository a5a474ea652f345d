"""Rows of virtual, alias, transport and relocated from a CSV file with the columns ``key`` and ``destination``.

What would loop, or expand to more than addresses may, is not written: only rows that lead to other rows are tried.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.directory.records import KeyedTable, Row
from posthouse.message.address import lookup_key
from posthouse.services import access, aliases, relocated, transports
from posthouse.services.changes import NotChanged, domain_key, plain_text
from posthouse.services.csvlines import Line, Problem
from posthouse.services.importing import Existing, Imported, Remembered

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

_ONE_EACH = frozenset({"transport", "relocated"})
"""Where a key has one row, so that another destination for it is a change."""


@dataclass(frozen=True, slots=True)
class AddressLine:
    """A line's row, as the table is to have it."""

    number: int
    key: str
    destination: str


@dataclass
class AddressImporter:
    """Into one of the four tables."""

    table: KeyedTable
    actor: Actor
    existing: Existing
    columns: tuple[str, ...] = ("key", "destination")
    required: tuple[str, ...] = ("key", "destination")
    batch_lines: int = 5_000
    _seen: Remembered = field(default_factory=Remembered)
    _hosted: dict[str, bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.table

    def begin(self, columns: Sequence[str]) -> None:  # noqa: ARG002 - both columns are always there
        if self.table in ("alias", "transport"):
            access.check_host(self.actor)

    def parse(self, line: Line) -> AddressLine:
        text, value = line.values["key"].strip(), line.values["destination"].strip()
        if self.table == "transport":
            key, destination = transports.transport_key(text), transports.transport_value(value)[0]
        elif self.table == "relocated":
            key, destination = aliases.alias_key(text)[1], relocated.moved_to(value)
        elif _is_bare_domain(self.table, text):
            key, destination = domain_key(text), plain_text(value, "destination")
        else:
            key = self._alias_key(text)
            parts = [aliases.destination(self.table, part) for part in aliases.parts([value])]
            if not parts:
                raise NotChanged(f"{key}: no destination")
            destination = ", ".join(parts)
        access.check_address(self.actor, key)
        return AddressLine(line.number, key, destination)

    def _alias_key(self, text: str) -> str:
        table, key = aliases.alias_key(text)
        if self.table == "alias" and table != "alias":
            raise NotChanged(f"{text}: the table alias has names of this host only; --table virtual has addresses")
        return key

    async def check(self, tables: "Tables", lines: Sequence[AddressLine]) -> list[Problem]:
        problems: dict[int, str] = {}
        own = [(self._identity(line.key, line.destination), line.number) for line in lines]
        for number, other in self._seen.add("row", own).items():
            problems[number] = (
                f"line {other} says the same" if not self._one_each else f"line {other} has the same key"
            )
        for line in lines:
            domain = line.key.rpartition("@")[2] if "@" in line.key and self.table != "transport" else ""
            if domain and not await self._is_hosted(tables, domain):
                text = f"{domain} is not hosted here: 'posthouse domain add {domain}' first"
                problems.setdefault(line.number, text)
        if self.existing is Existing.REFUSE:
            there = await self._there(tables, lines)
            for line in lines:
                if self._identity(line.key, line.destination) in there:
                    problems.setdefault(line.number, f"{line.key} -> {line.destination} exists already")
        return [Problem(number, text) for number, text in problems.items()]

    @property
    def _one_each(self) -> bool:
        return self.table in _ONE_EACH

    def _identity(self, key: str, destination: str) -> str:
        return key.lower() if self._one_each else f"{key.lower()} {destination.lower()}"

    async def _is_hosted(self, tables: "Tables", domain: str) -> bool:
        if domain not in self._hosted:
            self._hosted[domain] = await tables.is_hosted(domain)
        return self._hosted[domain]

    async def _there(self, tables: "Tables", lines: Iterable[AddressLine]) -> dict[str, Row]:
        rows = await tables.keyed(self.table, {line.key for line in lines})
        return {self._identity(row.key, row.destination): row for row in rows}

    async def check_all(self, directory: Directory) -> list[Problem]:  # noqa: ARG002 - nothing spans the file
        return []

    async def prepare(self, lines: Sequence[AddressLine]) -> None:
        pass

    def close(self) -> None:
        self._seen.close()

    async def store(self, tables: "Tables", lines: Sequence[AddressLine]) -> Imported:
        there = await self._there(tables, lines)
        new = [line for line in lines if self._identity(line.key, line.destination) not in there]
        old = [line for line in lines if self._identity(line.key, line.destination) in there]
        if old and self.existing is Existing.REFUSE:
            raise NotChanged(f"line {old[0].number}: {old[0].key} exists already")
        changing = 0
        for line in old if self.existing is Existing.UPDATE else []:
            row = there[self._identity(line.key, line.destination)]
            if row.destination != line.destination:
                await tables.set_destination(self.table, row.id, line.destination)
                changing += 1
        await tables.add_rows(self.table, [(line.key, line.destination) for line in new])
        if self.table in ("virtual", "alias"):
            await self._check_loops(tables, new)
        return Imported(len(new), changing, len(old) - changing)

    async def _check_loops(self, tables: "Tables", lines: Sequence[AddressLine]) -> None:
        """A new row closes a circle only if one of its destinations has a row itself."""
        leads_to = {line.number: _possible_keys(tables, line, self.table) for line in lines}
        keys = {key for some in leads_to.values() for key in some}
        known = {row.key.lower() for row in await tables.keyed(self.table, keys)}
        for line in lines:
            if leads_to[line.number] & known:
                try:
                    await aliases.check_loops(tables, line.key)
                except NotChanged as error:
                    raise NotChanged(f"line {line.number}: {error.reason}") from None


def _possible_keys(tables: "Tables", line: AddressLine, table: KeyedTable) -> set[str]:
    """Keys of rows that a line's destinations may find, but for its own."""
    found: set[str] = set()
    for part in aliases.parts([line.destination]):
        if table == "alias":
            found.add(part.lower().partition("@")[0])
        elif part.startswith("@"):
            found.add(part.lower())
        else:
            keys = tables.resolver.keys(lookup_key(tables.resolver.qualified(part)))
            found |= {key for key in (keys.full, keys.plain, keys.user, keys.catchall) if key}
    return found - {line.key}


def _is_bare_domain(table: KeyedTable, text: str) -> bool:
    return table == "virtual" and "@" not in text and "." in text
