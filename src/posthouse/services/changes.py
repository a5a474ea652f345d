"""What changing domains, accounts and aliases has in common: keys, texts, one transaction, pages, and saying no."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from posthouse.base.errors import TryLater
from posthouse.directory.directory import Directory
from posthouse.directory.errors import NotChanged
from posthouse.directory.failures import Failure, Inexpressible, TooLong
from posthouse.directory.model import Actor
from posthouse.directory.records import START, Cursor
from posthouse.message.address import is_domain, lookup_key, parse_path, to_ascii

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

__all__ = [
    "NotChanged",
    "address_key",
    "check_hosted",
    "domain_key",
    "mail_address",
    "make",
    "pages",
    "plain_text",
]
T = TypeVar("T")


async def make(directory: Directory, actor: Actor, work: "Callable[[Tables], Awaitable[T]]") -> T:
    """One change: all of ``work``, audited, or nothing. Raises ``NotChanged`` or ``TryLater``."""
    from sqlalchemy.exc import IntegrityError

    try:
        return await directory.change(actor, work)
    except IntegrityError as error:
        reason = error.orig.reason if isinstance(error.orig, Failure) else error.orig
        raise NotChanged(f"the database has something like it already: {reason}") from None
    except TryLater as error:
        if isinstance(error.__cause__, TooLong):
            raise NotChanged(await _too_long(directory, error.__cause__)) from None
        raise
    except Inexpressible as error:
        raise NotChanged(f"the database can't hold that: {error}") from None


async def _too_long(directory: Directory, error: TooLong) -> str:
    said = await directory.read(lambda tables: tables.too_long(error.table, error.values)) if error.table else ""
    return said or f"the database has no room for it: {error.reason}"


async def pages(
    directory: Directory, page: "Callable[[Tables, Cursor], Awaitable[list[tuple[Cursor, T]]]]"
) -> AsyncIterator[list[T]]:
    """What ``page`` finds, a page at a time, each read on its own: no transaction lasts as long as the listing."""
    after = START

    async def read(tables: "Tables") -> list[tuple[Cursor, T]]:
        return await page(tables, after)

    while found := await directory.read(read):
        yield [value for _, value in found]
        after = found[-1][0]


async def check_hosted(tables: "Tables", domain: str) -> None:
    """Raises ``NotChanged`` for a domain that is not hosted here."""
    if not await tables.is_hosted(domain):
        raise NotChanged(f"{domain} is not hosted here: 'posthouse domain add {domain}' first")


def domain_key(name: str) -> str:
    """A domain as tables have it. Raises ``NotChanged``."""
    try:
        domain = to_ascii(name.removesuffix("."))
    except ValueError:
        domain = ""
    if not is_domain(domain):
        raise NotChanged(f"{name!r} is not a domain name")
    return domain


def mail_address(address: str) -> str:
    """``user@domain`` as a path has it, the local part as it is written. Raises ``NotChanged``."""
    try:
        parsed = parse_path(address, utf8=True)
    except ValueError as error:
        raise NotChanged(f"{address[:300]!r} is not an address: {error}") from None
    if "@" not in parsed:
        raise NotChanged(f"{address!r} is not an address: it has no domain")
    return parsed


def address_key(address: str) -> str:
    """``user@domain`` as tables have it. Raises ``NotChanged``."""
    return lookup_key(mail_address(address))


def plain_text(text: str, what: str, longest: int = 255) -> str:
    """A line of text, such as a name. Raises ``NotChanged``."""
    if not text.isprintable() or len(text) > longest:
        raise NotChanged(
            f"{what}: expected one line of at most {longest} characters, none of them a control character"
        )
    return text
