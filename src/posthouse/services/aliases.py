"""Aliases: addresses that lead to others.

``user@domain`` and the catch-all ``@domain`` stand in ``virtual``; a bare name (``postmaster``, ``root``) is a
local alias of this host and stands in ``alias``. What is written never loops: the resolver itself tries it within
the transaction.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from posthouse.directory import destinations as syntax
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.directory.records import Cursor, KeyedTable, Row
from posthouse.directory.resolution import BrokenAliases
from posthouse.services import access
from posthouse.services.changes import (
    NotChanged,
    address_key,
    check_hosted,
    domain_key,
    mail_address,
    make,
    pages,
    plain_text,
)

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

_PROBE = "posthouse-probe"
"""A user whom no table names, to try a catch-all with."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A key of ``virtual`` or ``alias`` and everything it leads to."""

    table: KeyedTable
    key: str
    destinations: tuple[str, ...]


async def add(directory: Directory, address: str, destinations: Sequence[str], *, actor: Actor) -> Alias:
    """Have ``address`` lead to ``destinations`` as well. Raises ``NotChanged``."""
    table, key = alias_key(address)
    access.check_address(actor, key)
    wanted = _wanted(table, key, destinations)

    async def work(tables: "Tables") -> Alias:
        if table == "virtual":
            await check_hosted(tables, key.rpartition("@")[2])
        present = parts(await tables.destinations(table, key))
        known = {destination.lower() for destination in present}
        new = [destination for destination in wanted if destination.lower() not in known]
        if not new:
            raise NotChanged(f"{key} leads to {', '.join(wanted)} already")
        await tables.add_rows(table, [(key, destination) for destination in new])
        await check_loops(tables, key)
        await tables.audit("alias add", key, ", ".join(new))
        return Alias(table, key, (*present, *new))

    return await make(directory, actor, work)


async def replace(
    directory: Directory, address: str, destinations: Sequence[str], *, what: str, actor: Actor
) -> Alias:
    """Have ``address`` lead to nothing but ``destinations``; ``what`` is for the audit. Raises ``NotChanged``."""
    table, key = alias_key(address)
    access.check_address(actor, key)
    wanted = _wanted(table, key, destinations)

    async def work(tables: "Tables") -> Alias:
        if table == "virtual":
            await check_hosted(tables, key.rpartition("@")[2])
        await tables.replace(table, key, wanted)
        await check_loops(tables, key)
        await tables.audit(what, key, ", ".join(wanted))
        return Alias(table, key, tuple(wanted))

    return await make(directory, actor, work)


async def remove(directory: Directory, address: str, destinations: Sequence[str] = (), *, actor: Actor) -> Alias:
    """Remove an alias, or only some of its destinations; what is left. Raises ``NotChanged``."""
    table, key = alias_key(address)
    access.check_address(actor, key)
    unwanted = [text.lower() for text in parts(destinations)]

    async def work(tables: "Tables") -> Alias:
        present = parts(await tables.destinations(table, key))
        if not present:
            raise NotChanged(f"{key}: there is no such alias; 'posthouse alias list' shows them")
        if absent := set(unwanted) - {destination.lower() for destination in present}:
            raise NotChanged(f"{key} does not lead to {', '.join(sorted(absent))}")
        kept = [one for one in present if unwanted and one.lower() not in unwanted]
        await tables.replace(table, key, kept)
        await tables.audit("alias remove", key, ", ".join(unwanted))
        return Alias(table, key, tuple(kept))

    return await make(directory, actor, work)


async def listing(directory: Directory, *, actor: Actor, domain: str = "") -> AsyncIterator[Alias]:
    """Every alias, by table and key; bare domain rows of ``virtual`` are none. Raises ``NotChanged``.

    So does a domain that has none and isn't hosted here.
    """
    wanted = [domain_key(domain)] if domain else [""] if actor.domains is None else sorted(actor.domains)
    for name in wanted:
        if name:
            access.check(actor, name)
        is_empty = True
        async for alias in _of_table(directory, "virtual", name):
            is_empty = False
            yield alias
        if domain and is_empty:
            await directory.read(lambda tables, name=name: check_hosted(tables, name))
    if not domain and actor.domains is None:
        async for alias in _of_table(directory, "alias", ""):
            yield alias


async def _of_table(directory: Directory, table: KeyedTable, domain: str) -> AsyncIterator[Alias]:
    """Rows of one key follow each other, but a key may go on on the next page."""

    async def page(tables: "Tables", after: Cursor) -> list[tuple[Cursor, Row]]:
        return await tables.rows(table, after, domain=domain)

    key, texts = "", list[str]()
    async for rows in pages(directory, page):
        for row in rows:
            if row.key.lower() != key:
                if texts:
                    yield Alias(table, key, tuple(parts(texts)))
                key, texts = row.key.lower(), []
            if table == "alias" or "@" in key or "." not in key:
                texts.append(row.destination)
    if texts:
        yield Alias(table, key, tuple(parts(texts)))


async def check_loops(tables: "Tables", key: str) -> None:
    """Try where ``key`` leads now. Raises ``NotChanged`` for a loop, or more than addresses may expand to."""
    tried = await tables.explain(f"{_PROBE}{key}" if key.startswith("@") else key)
    if isinstance(tried.error, BrokenAliases):
        raise NotChanged(f"{key} not added: {tried.error.reason}")


def parts(texts: Iterable[str]) -> list[str]:
    """The single destinations in rows, or arguments, that may have several separated by commas."""
    return syntax.parts(list(texts))


def alias_key(address: str) -> tuple[KeyedTable, str]:
    """The table and key of what an operator calls an alias. Raises ``NotChanged``."""
    if address.startswith("@"):
        return "virtual", f"@{domain_key(address[1:])}"
    if "@" in address:
        return "virtual", address_key(address)
    return "alias", address_key(f"{address}@localhost").removesuffix("@localhost")


def destination(table: KeyedTable, text: str) -> str:
    """A single destination as it is written into a table. Raises ``NotChanged``."""
    if text.startswith("@") and table == "virtual":
        return f"@{domain_key(text[1:])}"
    if table == "alias" and not isinstance(syntax.local(text), str):
        return plain_text(text, "destination", 1000)
    if text.startswith(("/", "|", '"')):
        raise NotChanged(f"{text!r} is a file or a command: only local aliases lead to those")
    if "@" in text:
        return mail_address(text)
    if table == "alias":
        return alias_key(text)[1]
    raise NotChanged(f"{text!r} is not an address: it has no domain")


def _wanted(table: KeyedTable, key: str, destinations: Sequence[str]) -> list[str]:
    wanted = list(dict.fromkeys(destination(table, text) for text in parts(destinations)))
    if not wanted:
        raise NotChanged(f"{key}: no destination given")
    return wanted
