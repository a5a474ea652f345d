"""GENURLAUTH, RESETKEY and URLFETCH (RFC 4467 §7): a URL of a message that somebody else may fetch.

Invariants:
  1. A URL is answered only if its token is what the mailbox's key makes of it: without it nobody learns whether there
     is such a user, mailbox or message, also not by the time it takes.
  2. It gives no more than its owner, who made it, may read at this moment.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.message.address import lookup_key
from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.render import NIL, Completion, astring, bad, no, ok
from posthouse.protocols.imap.urlauth import INTERNAL, AuthUrl, GenUrlAuth, ResetKey, UrlFetch, parse_url
from posthouse.servers.imap.urls import mailbox_of, octets_of
from posthouse.store.accesskeys import KEY_BYTES
from posthouse.store.account import AccountStore
from posthouse.store.errors import BadMailboxName, NoSuchMailbox

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

ALGORITHM: Final = "01"
"""HMAC-SHA-256; RFC 4467 §2.4.1 wants tokens to say what they are made by."""
UNKNOWN_MECHANISM: Final = no("INTERNAL is the only mechanism here")


async def gen_url_auth(session: "ImapSession", command: GenUrlAuth) -> Completion:
    urls: list[bytes] = []
    for text, mechanism in command.urls:
        url = parse_url(text)
        if mechanism != INTERNAL:
            return UNKNOWN_MECHANISM
        if url is None or url.token or (mailbox := mailbox_of(url.path)) is None:
            return bad("Not the URL of a message, with its owner and who may fetch it")
        if lookup_key(url.user) != lookup_key(session.login):
            return bad("Only for one's own messages")
        try:
            key = await session.mailboxes.access_key(mailbox)
        except (NoSuchMailbox, BadMailboxName):
            return bad("No such mailbox")
        urls.append(astring(f"{text}:{INTERNAL.lower()}:{_token(key, url)}".encode()))
    session.engine.untagged(b"GENURLAUTH " + b" ".join(urls))
    return ok("GENURLAUTH completed")


async def reset_key(session: "ImapSession", command: ResetKey) -> Completion:
    if set(command.mechanisms) - {INTERNAL}:
        return UNKNOWN_MECHANISM
    await session.mailboxes.reset_access_keys(command.mailbox)
    return ok("RESETKEY completed", f"URLMECH {INTERNAL}") if command.mailbox else ok("All keys removed")


async def url_fetch(session: "ImapSession", command: UrlFetch) -> Completion:
    session.engine.send(b"* URLFETCH")
    for text in command.urls:
        session.engine.send(b" %b " % astring(text.encode()))
        await _send(session, text)
    session.engine.send(b"\r\n")
    return ok("URLFETCH completed")


async def _send(session: "ImapSession", text: str) -> None:
    """What the URL stands for; NIL where it may not be had, for whatever reason."""
    url = parse_url(text)
    store = await _verified(session, url) if url is not None else None
    if url is None or store is None:
        session.engine.send(NIL)
        return
    try:
        size = sum([len(octets) async for octets in _octets(store, url)])
    except BadCommandError:
        session.engine.send(NIL)
        return
    session.engine.send(b"{%d}\r\n" % size)
    left = size
    async for octets in _octets(store, url):
        left -= len(octets)
        session.engine.send(octets.replace(b"\0", b"\x80"))
        await session.flush()
    if left:
        # The literal has been announced; any other octets would be read as the message.
        raise ConnectionAbortedError("a message went away while it was being sent")


def _octets(store: AccountStore, url: AuthUrl) -> AsyncIterator[bytes]:
    return octets_of(partial(store.select, read_only=True), url.path)


async def _verified(session: "ImapSession", url: AuthUrl) -> AccountStore | None:
    """The account whose message it is, if this session may have it (RFC 4467 §6)."""
    mailbox = mailbox_of(url.path)
    store, key = await session.mailboxes.keyed(lookup_key(url.user), mailbox or "")
    token = _token(key or secrets.token_bytes(KEY_BYTES), url)
    is_right = hmac.compare_digest(token, url.token) and key is not None and url.mechanism == INTERNAL
    is_late = url.expires is not None and url.expires.timestamp() < time.time()
    # There is no message submission entity here that "submit+" could mean.
    is_for_us = url.access in ("authuser", "anonymous") or (
        url.access.startswith("user+") and lookup_key(url.access[5:]) == lookup_key(session.login)
    )
    return store if is_right and is_for_us and not is_late else None


def _token(key: bytes, url: AuthUrl) -> str:
    return ALGORITHM + hmac.new(key, url.rump.encode(), hashlib.sha256).hexdigest()
