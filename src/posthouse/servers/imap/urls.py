"""IMAP URLs of messages and their parts, for CATENATE (RFC 4469 §3; RFC 5092) and URLFETCH (RFC 4467).

``/INBOX;UIDVALIDITY=785799047/;UID=113330/;SECTION=1.5.9;PARTIAL=0.1024``: relative, with a mailbox. No others are
followed; of an absolute one (urlauth.py) that part comes here.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NoReturn
from urllib.parse import quote, unquote_to_bytes

from posthouse.base.errors import Refused
from posthouse.protocols.imap.commands import Section
from posthouse.protocols.imap.cursor import BadCommandError, Cursor
from posthouse.protocols.imap.fetchitems import parse_fetch_items
from posthouse.protocols.imap.render import no
from posthouse.servers.imap.section import section_octets, section_want
from posthouse.store.fetch import Message
from posthouse.store.model import Want
from posthouse.store.view import View

SLICE_BYTES: Final = 1 << 20
_PRINTED: Final = "/;=.:@&%+,!*'()"

_url = re.compile(
    r"/([^;?#]+)(?:;UIDVALIDITY=(\d{1,10}))?/;UID=(\d{1,10})(?:/;SECTION=([^;/]+))?(?:/;PARTIAL=(\d{1,18})(?:\.(\d{1,18}))?)?",
    re.IGNORECASE,
).fullmatch


Select = Callable[[str], Awaitable[View]]
"""Opens a mailbox to be read. Raises Refused."""


def mailbox_of(url: str) -> str | None:
    """The mailbox of a URL's message; None where it names none."""
    match = _url(url)
    try:
        return unquote_to_bytes(match[1]).decode("utf-8") if match else None
    except UnicodeDecodeError:
        return None


async def octets_of(select: Select, url: str) -> AsyncIterator[bytes]:
    """What a URL stands for, in slices, of the mailboxes that can be selected.

    Raises BadCommandError where it stands for nothing (BADURL).
    """
    match = _url(url)
    if match is None:
        _refuse(url)
    mailbox, uidvalidity, uid, section_text, first, length = match.groups()
    section = _section(url, section_text)
    try:
        name = unquote_to_bytes(mailbox).decode("utf-8")
        view = await select(name)
    except (UnicodeDecodeError, Refused):
        _refuse(url)
    try:
        if uidvalidity and int(uidvalidity) != view.uidvalidity:
            _refuse(url)
        start, stop = int(first or 0), int(first or 0) + int(length) if length else None
        while True:
            end = start + SLICE_BYTES if stop is None else min(start + SLICE_BYTES, stop)
            octets = await _slice(view, int(uid), section, start, end)
            if octets is None:
                _refuse(url)
            if octets:
                yield octets
            if len(octets) < SLICE_BYTES:
                return
            start = end
    finally:
        view.close()


async def _slice(view: View, uid: int, section: Section, start: int, end: int) -> bytes | None:
    def cut(message: Message) -> bytes | None:
        return section_octets(message, section, start, end)

    async for found in view.fetch([uid], section_want(section) | Want.BODY, cut):
        for octets in found:
            return octets
    return None


def _section(url: str, text: str | None) -> Section:
    try:
        specification = unquote_to_bytes(text or "")
        cursor = Cursor(b"BODY.PEEK[%b]" % specification)
        (item,) = parse_fetch_items(cursor)
        cursor.finish()
    except BadCommandError:
        _refuse(url)
    assert isinstance(item, Section), "BODY.PEEK[…] is one"
    return item


def _refuse(url: str) -> NoReturn:
    """RFC 4469 §4: the URL in question is named."""
    raise BadCommandError(no("Nothing is there", f'BADURL "{quote(url, safe=_PRINTED)}"'))
