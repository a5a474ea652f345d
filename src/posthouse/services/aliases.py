"""Aliases: addresses that lead to others.

``user@domain`` and the catch-all ``@domain`` stand in ``virtual``; a bare name (``postmaster``, ``root``) is a
local alias of this host and stands in ``alias``. What is written never loops: the resolver itself tries it within
the transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from posthouse.directory.directory import Directory
from posthouse.directory.resolution import BrokenAliases
from posthouse.directory.oldtables import Table
from posthouse.services.changes import NotChanged, address_key, domain_key, mail_address

_PROBE = "posthouse-probe"
"""A user whom no table names, to try a catch-all with."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A key of ``virtual`` or ``alias`` and everything it leads to."""

    table: Table
    key: str
    destinations: tuple[str, ...]


async def add(directory: Directory, address: str, destinations: Sequence[str], *, who: str = "posthouse") -> Alias:
    """Have ``address`` lead to ``destinations`` as well. Raises ``NotChanged``."""
    table, key = _key(address)
    wanted = list(dict.fromkeys(_destination(table, text) for text in parts(destinations)))
    if not wanted:
        raise NotChanged(f"{key}: no destination given")
    async with directory.change(who, "alias add", key, ", ".join(wanted)) as tables:
        domain = key.rpartition("@")[2]
        if table == "virtual" and not await directory.is_hosted(domain):
            raise NotChanged(f"{domain} is not hosted here: 'posthouse domain add {domain}' first")
        present = parts(await tables.destinations(table, key))
        known = {destination.lower() for destination in present}
        new = [destination for destination in wanted if destination.lower() not in known]
        if not new:
            raise NotChanged(f"{key} leads to {', '.join(wanted)} already")
        for destination in new:
            await tables.add(table, key, destination)
        tried = await directory.explain(f"{_PROBE}{key}" if key.startswith("@") else key)
        if isinstance(tried.error, BrokenAliases):
            raise NotChanged(f"{key} not added: {tried.error.reason}")
    return Alias(table, key, (*present, *new))


async def remove(
    directory: Directory, address: str, destinations: Sequence[str] = (), *, who: str = "posthouse"
) -> Alias:
    """Remove an alias, or only some of its destinations; what is left. Raises ``NotChanged``."""
    table, key = _key(address)
    unwanted = [text.lower() for text in parts(destinations)]
    async with directory.change(who, "alias remove", key, ", ".join(unwanted)) as tables:
        present = parts(await tables.destinations(table, key))
        if not present:
            raise NotChanged(f"{key}: there is no such alias; 'posthouse alias list' shows them")
        if absent := set(unwanted) - {destination.lower() for destination in present}:
            raise NotChanged(f"{key} does not lead to {', '.join(sorted(absent))}")
        kept = [one for one in present if unwanted and one.lower() not in unwanted]
        await tables.replace(table, key, kept)
    return Alias(table, key, tuple(kept))


async def listing(directory: Directory) -> list[Alias]:
    """Every alias, by table and key; bare domain rows of ``virtual`` are none."""
    found: dict[tuple[Table, str], list[str]] = {}
    names: tuple[Table, ...] = ("virtual", "alias")
    for table in names:
        for row in await directory.tables().rows(table):
            if table == "alias" or "@" in row.key or "." not in row.key:
                found.setdefault((table, row.key.lower()), []).append(row.destination)
    return [Alias(table, key, tuple(parts(texts))) for (table, key), texts in found.items()]


def parts(texts: Iterable[str]) -> list[str]:
    """The single destinations in rows, or arguments, that may have several separated by commas."""
    return list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))


def _key(address: str) -> tuple[Table, str]:
    if address.startswith("@"):
        return "virtual", f"@{domain_key(address[1:])}"
    if "@" in address:
        return "virtual", address_key(address)
    return "alias", address_key(f"{address}@localhost").removesuffix("@localhost")


def _destination(table: Table, text: str) -> str:
    if text.startswith("@") and table == "virtual":
        return f"@{domain_key(text[1:])}"
    if "@" in text:
        return mail_address(text)
    if text.startswith(("/", "|")):
        raise NotChanged(f"{text!r} is a file or a command, and aliases lead only to addresses yet")
    if table == "alias":
        return _key(text)[1]
    raise NotChanged(f"{text!r} is not an address: it has no domain")
