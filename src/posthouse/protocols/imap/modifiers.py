"""Modifiers of SELECT, FETCH and STORE (RFC 4466 §2.1, §2.4, §2.5; RFC 7162 §7; RFC 9394)."""

from posthouse.message.query import Ranges
from posthouse.protocols.imap.commands import Resync
from posthouse.protocols.imap.cursor import UID_REQUIRED, UIDONLY, BadCommandError, Cursor, syntax_error
from posthouse.protocols.imap.searchreturn import parse_partial_range
from posthouse.protocols.imap.sequence import parse_sequence_set


def parse_select_parameters(cursor: Cursor) -> tuple[bool, Resync | None]:
    """`` (CONDSTORE)`` or `` (QRESYNC (…))`` or nothing: whether it was the first, and what the second said."""
    condstore, resync = False, None
    if not cursor.skip(b" ("):
        return condstore, resync
    while True:
        name = cursor.keyword()
        if name == b"CONDSTORE":
            condstore = True
        elif name == b"QRESYNC":
            resync = _parse_resync(cursor)
        else:
            raise syntax_error("Unknown SELECT parameter")
        if not cursor.skip(b" "):
            break
    cursor.expect(b")")
    return condstore, resync


def _parse_resync(cursor: Cursor) -> Resync:
    cursor.expect(b" (")
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.modseq()
    uids: Ranges | None = None
    if cursor.looking_at(b" ") and not cursor.looking_at(b" ("):
        cursor.space()
        uids = parse_sequence_set(cursor)
    if cursor.skip(b" ("):
        if UIDONLY in cursor.enabled:
            raise BadCommandError(UID_REQUIRED)
        # What the client knows of sequence numbers helps servers that remember less than we do.
        parse_sequence_set(cursor)
        cursor.space()
        parse_sequence_set(cursor)
        cursor.expect(b")")
    cursor.expect(b")")
    return Resync(uidvalidity, modseq, uids)


def parse_fetch_modifiers(cursor: Cursor) -> tuple[int | None, bool, tuple[int, int] | None]:
    """`` (CHANGEDSINCE n [VANISHED] [PARTIAL n:n])`` or nothing: the number, whether VANISHED, the places."""
    changed_since, vanished, partial = None, False, None
    if not cursor.skip(b" ("):
        return changed_since, vanished, partial
    while True:
        name = cursor.keyword()
        if name == b"CHANGEDSINCE":
            cursor.space()
            changed_since = cursor.modseq()
        elif name == b"VANISHED":
            vanished = True
        elif name == b"PARTIAL":
            cursor.space()
            partial = parse_partial_range(cursor)
        else:
            raise syntax_error("Unknown FETCH modifier")
        if not cursor.skip(b" "):
            break
    cursor.expect(b")")
    if vanished and changed_since is None:
        raise syntax_error("VANISHED needs CHANGEDSINCE")
    return changed_since, vanished, partial


def parse_store_modifiers(cursor: Cursor) -> int | None:
    """``(UNCHANGEDSINCE n) `` or nothing."""
    if not cursor.skip(b"("):
        return None
    if cursor.keyword() != b"UNCHANGEDSINCE":
        raise syntax_error("Unknown STORE modifier")
    cursor.space()
    unchanged_since = cursor.modseq()
    cursor.expect(b") ")
    return unchanged_since
