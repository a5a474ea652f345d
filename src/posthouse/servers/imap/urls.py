"""IMAP URLs of the account that is logged in, for CATENATE (RFC 4469 §3; RFC 5092).

``/INBOX;UIDVALIDITY=785799047/;UID=113330/;SECTION=1.5.9;PARTIAL=0.1024``: relative, with a mailbox. No others are
followed: there is no account that a client may read but its own.
"""

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NoReturn
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

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SLICE_BYTES: Final = 1 << 20
_PRINTED: Final = "/;=.:@&%+,!*'()"

_url = re.compile(
    r"/([^;?#]+)(?:;UIDVALIDITY=(\d{1,10}))?/;UID=(\d{1,10})(?:/;SECTION=([^;/]+))?(?:/;PARTIAL=(\d{1,18})(?:\.(\d{1,18}))?)?",
    re.IGNORECASE,
).fullmatch


async def octets_of(session: "ImapSession", url: str) -> AsyncIterator[bytes]:
    """What a URL stands for, in slices. Raises BadCommandError where it stands for nothing (BADURL)."""
    match = _url(url)
    if match is None:
        _refuse(url)
    mailbox, uidvalidity, uid, section_text, first, length = match.groups()
    section = _section(url, section_text)
    try:
        name = unquote_to_bytes(mailbox).decode("utf-8")
        view = await session.mailboxes.select(name, read_only=True)
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
