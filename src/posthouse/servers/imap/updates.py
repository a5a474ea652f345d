"""What a client is told of changes in the selected mailbox (RFC 3501 §7; RFC 7162; by UID only RFC 9586)."""

from collections.abc import Callable, Iterable

from posthouse.protocols.imap.render import SYSTEM_FLAGS, flag_list, sequence_set
from posthouse.protocols.imap.rights import needed_for
from posthouse.store.filename import KEYWORD_LIMIT
from posthouse.store.model import Changes
from posthouse.store.view import View

Subject = Callable[[int, int], bytes]
"""How a FETCH response begins, by sequence number and UID, up to its items."""


def by_number(number: int, uid: int) -> bytes:
    """``* 3 FETCH (UID 7 ``."""
    return b"* %d FETCH (UID %d " % (number, uid)


def by_uid(_: int, uid: int) -> bytes:
    """``* 7 UIDFETCH (`` (RFC 9586 §3.3)."""
    return b"* %d UIDFETCH (" % uid


def flag_lines(view: View) -> list[str]:
    """Which flags there are, and which can be set (RFC 3501 §7.2.6, §7.1): others too, while there is room."""
    flags = " ".join((*SYSTEM_FLAGS, *view.keywords))
    permanent = "" if view.read_only else _changeable(view)
    return [f"FLAGS ({flags})", f"OK [PERMANENTFLAGS ({permanent})] Flags that stay"]


def _changeable(view: View) -> str:
    """The flags that this user may change (RFC 4314 §5.1.1)."""
    flags = [flag for flag in (*SYSTEM_FLAGS, *view.keywords) if view.may(needed_for(flag))]
    return " ".join([*flags, "\\*"] if view.may("w") and len(view.keywords) < KEYWORD_LIMIT else flags)


def update_lines(
    changes: Changes, subject: Subject = by_number, *, condstore: bool = False, vanished: bool = False
) -> bytes:
    """EXPUNGE or VANISHED, EXISTS, RECENT and FETCH FLAGS responses."""
    lines: list[bytes] = []
    if vanished and changes.vanished:
        lines.append(b"* VANISHED %b\r\n" % sequence_set(changes.vanished))
    elif changes.expunged:
        lines += [b"* %d EXPUNGE\r\n" % number for number in changes.expunged]
    if changes.exists is not None:
        lines.append(b"* %d EXISTS\r\n" % changes.exists)
    if changes.recent is not None:
        lines.append(b"* %d RECENT\r\n" % changes.recent)
    if condstore:
        lines += changed_lines(changes.flags, changes.modseqs, subject)
    else:
        lines += [
            b"%bFLAGS %b)\r\n" % (subject(number, uid), flag_list(flags)) for number, uid, flags in changes.flags
        ]
    return b"".join(lines)


def changed_lines(
    flags: Iterable[tuple[int, int, frozenset[str]]], modseqs: Iterable[int], subject: Subject = by_number
) -> list[bytes]:
    """FETCH responses as QRESYNC wants them: with UID, flags and modification sequence."""
    return [
        b"%bFLAGS %b MODSEQ (%d))\r\n" % (subject(number, uid), flag_list(set_flags), modseq)
        for (number, uid, set_flags), modseq in zip(flags, modseqs, strict=True)
    ]
