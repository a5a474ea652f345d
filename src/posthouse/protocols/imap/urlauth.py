"""GENURLAUTH, RESETKEY and URLFETCH, and the URLs that they are about (RFC 4467 §9)."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import unquote

from posthouse.protocols.imap.commands import Command
from posthouse.protocols.imap.cursor import Cursor, syntax_error

T = TypeVar("T")

INTERNAL: Final = "INTERNAL"
MAX_URLS: Final = 100

_url = re.compile(
    r"(?P<rump>imap://(?P<user>[^/@:;]+)(?:;AUTH=[^/@;]+)?@[^/@;]+(?P<path>/[^?#]+?)"
    r"(?:;EXPIRE=(?P<expire>[^;/]+))?;URLAUTH=(?P<access>(?:submit|user)\+[^:;/]+|authuser|anonymous))"
    r"(?::(?P<mechanism>[A-Z0-9.-]+):(?P<token>[0-9A-F]{32,}))?",
    re.IGNORECASE,
).fullmatch


@dataclass(frozen=True, slots=True)
class GenUrlAuth(Command):
    """GENURLAUTH (RFC 4467 §7): URLs and mechanisms, these in upper case."""

    urls: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ResetKey(Command):
    """RESETKEY (RFC 4467 §7): of one mailbox, or of all where it is empty."""

    mailbox: str = ""
    mechanisms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UrlFetch(Command):
    """URLFETCH (RFC 4467 §7)."""

    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuthUrl:
    """A URL that may be used by others: ``path`` names the message, ``user`` whose it is.

    ``rump`` is what the token is made of. ``access`` is in lower case up to its ``+``. ``token`` is empty in a rump.
    """

    rump: str
    user: str
    path: str
    expires: datetime | None
    access: str
    mechanism: str = ""
    token: str = ""


def parse_url(text: str) -> AuthUrl | None:
    """None where it is none (RFC 4467 §9: authimapurlfull, authimapurlrump)."""
    found = _url(text) if text.isascii() and text.isprintable() else None
    if found is None:
        return None
    expires = None
    if found["expire"] is not None:
        try:
            expires = datetime.fromisoformat(found["expire"])
        except ValueError:
            return None
        if expires.tzinfo is None:
            return None
    kind, plus, who = found["access"].partition("+")
    access = kind.lower() + plus + unquote(who)
    mechanism, token = (found["mechanism"] or "").upper(), (found["token"] or "").lower()
    return AuthUrl(found["rump"], unquote(found["user"]), found["path"], expires, access, mechanism, token)


def parse_gen_url_auth(tag: bytes, cursor: Cursor) -> GenUrlAuth:
    urls: list[tuple[str, str]] = []
    while True:
        cursor.space()
        url = cursor.text()
        cursor.space()
        urls.append((url, cursor.keyword().decode("ascii")))
        if cursor.at_end():
            return GenUrlAuth(tag, _few(urls))


def parse_reset_key(tag: bytes, cursor: Cursor) -> ResetKey:
    if not cursor.skip(b" "):
        return ResetKey(tag)
    mailbox = cursor.mailbox()
    mechanisms: list[str] = []
    while cursor.skip(b" "):
        mechanisms.append(cursor.keyword().decode("ascii"))
    if not mailbox:
        raise syntax_error("Expected a mailbox")
    return ResetKey(tag, mailbox, tuple(mechanisms))


def parse_url_fetch(tag: bytes, cursor: Cursor) -> UrlFetch:
    urls: list[str] = []
    while True:
        cursor.space()
        urls.append(cursor.text())
        if cursor.at_end():
            return UrlFetch(tag, _few(urls))


def _few(urls: list[T]) -> tuple[T, ...]:
    if len(urls) > MAX_URLS:
        raise syntax_error("Too many URLs")
    return tuple(urls)
