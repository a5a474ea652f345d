"""From the bytes of a complete command to its value (RFC 3501 §9).

``PARSERS`` has a function for each command's name; each reads its arguments with a cursor and leaves it at the
command's end. APPEND is read by appending.py.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from posthouse.protocols.imap import acl, commands, urlauth
from posthouse.protocols.imap.cancelling import parse_cancel_update
from posthouse.protocols.imap.commands import Command
from posthouse.protocols.imap.cursor import BadCommandError, Cursor, syntax_error
from posthouse.protocols.imap.fetchitems import parse_fetch_items
from posthouse.protocols.imap.listing import parse_list, parse_status_items
from posthouse.protocols.imap.metadata import parse_get_metadata, parse_set_metadata
from posthouse.protocols.imap.modifiers import parse_fetch_modifiers, parse_select_parameters, parse_store_modifiers
from posthouse.protocols.imap.multisearch import parse_multisearch
from posthouse.protocols.imap.notify import parse_notify
from posthouse.protocols.imap.render import SYSTEM_FLAGS, no
from posthouse.protocols.imap.searchkeys import parse_search
from posthouse.protocols.imap.searchreturn import parse_return
from posthouse.protocols.imap.sequence import parse_sequence_set
from posthouse.protocols.imap.sorting import check_relevancy, parse_sort, parse_thread
from posthouse.protocols.sasl.credentials import decode_base64

Parser = Callable[[bytes, Cursor], Command]

SPECIAL_USES: Final = ("\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash")
"""What a mailbox can be made for: all but \\All and \\Flagged, which would show what is in other mailboxes."""

# RFC 2971 §3.3: no more than 30 fields.
MAX_ID_FIELDS: Final = 30

_tag = re.compile(rb'[^(){ %*"\\+\x00-\x1f\x7f-\xff]+ ').match
_name = re.compile(rb"(?:UID )?[A-Z]+", re.IGNORECASE).match
_system_flags = {flag.upper(): flag for flag in SYSTEM_FLAGS}
_special_uses = {use.upper(): use for use in SPECIAL_USES}


def parse_tag(cursor: Cursor) -> bytes:
    """The tag and the space after it."""
    match = _tag(cursor.data, cursor.position)
    if match is None:
        raise syntax_error("Invalid tag")
    cursor.position = match.end()
    return match.group()[:-1]


def parse_name(cursor: Cursor) -> bytes:
    """The command's name in upper case; ``UID FETCH`` is one name."""
    match = _name(cursor.data, cursor.position)
    if match is None:
        raise syntax_error("Missing command")
    cursor.position = match.end()
    return match.group().upper()


def parse_base64(text: bytes) -> bytes:
    """A SASL response (RFC 3501 §6.2.2)."""
    try:
        return decode_base64(text)
    except ValueError:
        raise syntax_error("Invalid base64") from None


def parse_flag_list(cursor: Cursor) -> list[str]:
    """``(flag flag …)``."""
    cursor.expect(b"(")
    if cursor.skip(b")"):
        return []
    flags = [_flag(cursor)]
    while cursor.skip(b" "):
        flags.append(_flag(cursor))
    cursor.expect(b")")
    return flags


def _flag(cursor: Cursor) -> str:
    if not cursor.skip(b"\\"):
        return cursor.atom().decode("ascii")
    flag = "\\" + cursor.atom().decode("ascii")
    known = _system_flags.get(flag.upper())
    if known is None:
        raise syntax_error("Invalid system flag")
    return known


def _bare(command: type[Command], tag: bytes, _cursor: Cursor) -> Command:
    return command(tag)


def _id(tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    fields: list[tuple[bytes, bytes | None]] = []
    if not cursor.skip(b"("):
        if cursor.nstring() is not None:
            raise syntax_error("Expected a list or NIL")
        return commands.Id(tag, ())
    while not cursor.skip(b")"):
        if fields:
            cursor.space()
        name = cursor.string()
        cursor.space()
        fields.append((name, cursor.nstring()))
        if len(fields) > MAX_ID_FIELDS:
            raise syntax_error("Too many fields")
    return commands.Id(tag, tuple(fields))


def _authenticate(tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    mechanism = cursor.keyword().decode("ascii")
    if not cursor.skip(b" "):
        return commands.Authenticate(tag, mechanism, None)
    text = cursor.data[cursor.position :]
    cursor.position = len(cursor.data)
    return commands.Authenticate(tag, mechanism, b"" if text == b"=" else parse_base64(text))


def _login(tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    user = cursor.text()
    cursor.space()
    return commands.Login(tag, user, cursor.text())


def _mailbox_argument(cursor: Cursor) -> str:
    cursor.space()
    return cursor.mailbox()


def _select(read_only: bool, tag: bytes, cursor: Cursor) -> Command:
    mailbox = _mailbox_argument(cursor)
    return commands.Select(tag, mailbox, read_only, *parse_select_parameters(cursor))


def _create(tag: bytes, cursor: Cursor) -> Command:
    mailbox = _mailbox_argument(cursor)
    if not cursor.skip(b" "):
        return commands.Create(tag, mailbox)
    cursor.expect(b"(")
    if cursor.keyword() != b"USE":
        raise syntax_error("Unknown CREATE parameter")
    cursor.space()
    special_use = _special_use(cursor)
    cursor.expect(b")")
    return commands.Create(tag, mailbox, special_use)


def _special_use(cursor: Cursor) -> str:
    """RFC 6154 §3, §6: ``(\\Sent)``; USEATTR where no mailbox can have that use, or all of them."""
    cursor.expect(b"(")
    uses: list[str] = []
    while not cursor.skip(b")"):
        if uses:
            cursor.space()
        cursor.expect(b"\\")
        uses.append("\\" + cursor.keyword().decode("ascii"))
    if not uses:
        return ""
    if len(set(uses)) > 1:
        raise BadCommandError(no("A mailbox has one special use here", "USEATTR"))
    if uses[0] not in _special_uses:
        raise BadCommandError(no("No mailbox is made for that here", "USEATTR"))
    return _special_uses[uses[0]]


def _delete(tag: bytes, cursor: Cursor) -> Command:
    return commands.Delete(tag, _mailbox_argument(cursor))


def _rename(tag: bytes, cursor: Cursor) -> Command:
    old = _mailbox_argument(cursor)
    return commands.Rename(tag, old, _mailbox_argument(cursor))


def _subscribe(subscribed: bool, tag: bytes, cursor: Cursor) -> Command:
    return commands.Subscribe(tag, _mailbox_argument(cursor), subscribed)


def _lsub(tag: bytes, cursor: Cursor) -> Command:
    reference = _mailbox_argument(cursor)
    cursor.space()
    return commands.List(tag, reference, (cursor.list_mailbox(),), True)


def _status(tag: bytes, cursor: Cursor) -> Command:
    mailbox = _mailbox_argument(cursor)
    cursor.space()
    return commands.Status(tag, mailbox, parse_status_items(cursor))


def _get_quota(tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    return commands.GetQuota(tag, cursor.astring())


def _get_quota_root(tag: bytes, cursor: Cursor) -> Command:
    return commands.GetQuotaRoot(tag, _mailbox_argument(cursor))


def _enable(tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    names = [cursor.keyword()]
    while cursor.skip(b" "):
        names.append(cursor.keyword())
    return commands.Enable(tag, tuple(names))


def _compress(tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    if cursor.keyword() != b"DEFLATE":
        raise syntax_error("Unknown compression")
    return commands.Compress(tag)


def _close(expunge: bool, tag: bytes, _cursor: Cursor) -> Command:
    return commands.Close(tag, expunge)


def _uid_expunge(tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    return commands.Expunge(tag, parse_sequence_set(cursor))


def _search(uid: bool, tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    returns = parse_return(cursor)
    program = parse_search(cursor)
    check_relevancy(returns, program.query)
    return commands.Search(tag, uid, program.query, returns, program.is_charset_known)


def _fetch(uid: bool, tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    ranges = parse_sequence_set(cursor)
    cursor.space()
    items = parse_fetch_items(cursor)
    return commands.Fetch(tag, uid, ranges, items, *parse_fetch_modifiers(cursor))


def _store(uid: bool, tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    ranges = parse_sequence_set(cursor)
    cursor.space()
    unchanged_since = parse_store_modifiers(cursor)
    mode: Literal["add", "remove", "replace"] = "replace"
    if cursor.skip(b"+"):
        mode = "add"
    elif cursor.skip(b"-"):
        mode = "remove"
    name = cursor.keyword()
    if name not in {b"FLAGS", b"FLAGS.SILENT"}:
        raise syntax_error("Unknown STORE item")
    cursor.space()
    if cursor.looking_at(b"("):
        flags = parse_flag_list(cursor)
    else:
        flags = [_flag(cursor)]
        while cursor.skip(b" "):
            flags.append(_flag(cursor))
    return commands.Store(tag, uid, ranges, mode, name == b"FLAGS.SILENT", frozenset(flags), unchanged_since)


def _transfer(command: type[commands.Copy] | type[commands.Move], uid: bool, tag: bytes, cursor: Cursor) -> Command:
    cursor.space()
    ranges = parse_sequence_set(cursor)
    return command(tag, uid, ranges, _mailbox_argument(cursor))


PARSERS: Final[dict[bytes, Parser]] = {
    b"CAPABILITY": partial(_bare, commands.Capability),
    b"NOOP": partial(_bare, commands.Noop),
    b"LOGOUT": partial(_bare, commands.Logout),
    b"ID": _id,
    b"STARTTLS": partial(_bare, commands.StartTls),
    b"AUTHENTICATE": _authenticate,
    b"LOGIN": _login,
    b"SELECT": partial(_select, False),
    b"EXAMINE": partial(_select, True),
    b"CREATE": _create,
    b"DELETE": _delete,
    b"RENAME": _rename,
    b"SUBSCRIBE": partial(_subscribe, True),
    b"UNSUBSCRIBE": partial(_subscribe, False),
    b"LIST": parse_list,
    b"LSUB": _lsub,
    b"STATUS": _status,
    b"GETQUOTA": _get_quota,
    b"GETQUOTAROOT": _get_quota_root,
    b"NOTIFY": parse_notify,
    b"GENURLAUTH": urlauth.parse_gen_url_auth,
    b"RESETKEY": urlauth.parse_reset_key,
    b"URLFETCH": urlauth.parse_url_fetch,
    b"SETACL": acl.parse_set_acl,
    b"DELETEACL": acl.parse_delete_acl,
    b"GETACL": acl.parse_get_acl,
    b"LISTRIGHTS": acl.parse_list_rights,
    b"MYRIGHTS": acl.parse_my_rights,
    b"GETMETADATA": parse_get_metadata,
    b"SETMETADATA": parse_set_metadata,
    b"UNAUTHENTICATE": partial(_bare, commands.Unauthenticate),
    b"NAMESPACE": partial(_bare, commands.Namespace),
    b"ENABLE": _enable,
    b"IDLE": partial(_bare, commands.Idle),
    b"CANCELUPDATE": parse_cancel_update,
    b"CHECK": partial(_bare, commands.Check),
    b"CLOSE": partial(_close, True),
    b"COMPRESS": _compress,
    b"UNSELECT": partial(_close, False),
    b"EXPUNGE": partial(_bare, commands.Expunge),
    b"UID EXPUNGE": _uid_expunge,
    b"SEARCH": partial(_search, False),
    b"UID SEARCH": partial(_search, True),
    b"ESEARCH": parse_multisearch,
    b"SORT": partial(parse_sort, False),
    b"UID SORT": partial(parse_sort, True),
    b"THREAD": partial(parse_thread, False),
    b"UID THREAD": partial(parse_thread, True),
    b"FETCH": partial(_fetch, False),
    b"UID FETCH": partial(_fetch, True),
    b"STORE": partial(_store, False),
    b"UID STORE": partial(_store, True),
    b"COPY": partial(_transfer, commands.Copy, False),
    b"UID COPY": partial(_transfer, commands.Copy, True),
    b"MOVE": partial(_transfer, commands.Move, False),
    b"UID MOVE": partial(_transfer, commands.Move, True),
}
