"""Routes: which transport takes an address, a domain, or everything below a domain.

A value is ``name:nexthop``. ``maildrop``, ``uucp`` and whatever the configuration defines are pipe transports.
"""

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from posthouse.config.transports import NO_PIPES, built_in
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.directory.records import Cursor, Row
from posthouse.message.address import is_domain
from posthouse.services import access
from posthouse.services.changes import NotChanged, address_key, domain_key, make, pages, plain_text

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

_KNOWN = {"", *NO_PIPES, *built_in()}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_HOST = re.compile(r"(?:\[(?P<literal>[^][\s]{1,255})\]|(?P<name>[^][:\s]{1,255}))(?::(?P<port>\d{1,5}))?", re.ASCII)
_ADDRESS = re.compile(r"(?:ipv6:)?[0-9a-f:.]+", re.ASCII | re.IGNORECASE)


async def add(directory: Directory, where: str, value: str, *, actor: Actor) -> tuple[str, str]:
    """Route ``where`` by ``value``; the key, and a warning or nothing. Raises ``NotChanged``."""
    access.check_host(actor)
    key, (route, warning) = transport_key(where), transport_value(value)

    async def work(tables: "Tables") -> str:
        if there := await tables.destinations("transport", key):
            raise NotChanged(f"{key} has the transport {there[0]} already: 'posthouse transport remove {key}' first")
        await tables.add("transport", key, route)
        await tables.audit("transport add", key, route)
        return key

    return await make(directory, actor, work), warning


async def remove(directory: Directory, where: str, *, actor: Actor) -> str:
    """Route it as everything else again; the key. Raises ``NotChanged``."""
    access.check_host(actor)
    key = transport_key(where)

    async def work(tables: "Tables") -> str:
        if not await tables.remove("transport", key):
            raise NotChanged(f"{key} has no transport; 'posthouse transport list' shows what has one")
        await tables.audit("transport remove", key)
        return key

    return await make(directory, actor, work)


async def listing(directory: Directory, *, actor: Actor) -> AsyncIterator[Row]:
    """Every route, by key. Raises ``NotChanged``."""
    access.check_host(actor)

    async def page(tables: "Tables", after: Cursor) -> list[tuple[Cursor, Row]]:
        return await tables.rows("transport", after)

    async for rows in pages(directory, page):
        for row in rows:
            yield row


def transport_key(where: str) -> str:
    """``user@domain``, ``domain``, ``.domain`` (what is below it) or ``*``. Raises ``NotChanged``."""
    if where == "*":
        return where
    if "@" in where:
        return address_key(where)
    return f".{domain_key(where[1:])}" if where.startswith(".") else domain_key(where)


def transport_value(value: str) -> tuple[str, str]:
    """A value as tables have it, and what is doubtful about it or nothing. Raises ``NotChanged``."""
    name, colon, nexthop = plain_text(value.strip(), "transport").partition(":")
    name, nexthop = name.lower(), nexthop.strip()
    if not colon or (name and not _NAME.fullmatch(name)) or value.strip() == ":":
        raise NotChanged(f"{value!r} is not a transport: expected name:nexthop, as in smtp:[mail.example.com]:25")
    if name in ("", "smtp", "relay"):
        _check_host_port(value, nexthop)
    elif name == "lmtp":
        _check_lmtp(value, nexthop)
    warning = "" if name in _KNOWN else f"mail for it is put off unless the configuration has [transports.{name}]"
    return f"{name}:{nexthop}", warning


def _check_lmtp(value: str, nexthop: str) -> None:
    if nexthop.startswith("unix:"):
        if not nexthop.startswith("unix:/"):
            raise NotChanged(f"{value!r}: expected a path that begins with / after unix:")
    else:
        _check_host_port(value, nexthop.removeprefix("inet:"))


def _check_host_port(value: str, nexthop: str) -> None:
    if not nexthop:
        return
    found = _HOST.fullmatch(nexthop)
    if found and int(found["port"] or 25) in range(1, 65536):
        host = found["literal"] or found["name"]
        if is_domain(host) or _ADDRESS.fullmatch(host):
            return
    raise NotChanged(f"{value!r}: expected host, host:port, [host] or [host]:port after the transport's name")
