"""What a client is told of changes in the selected mailbox (RFC 3501 §7; with CONDSTORE or QRESYNC RFC 7162)."""

from collections.abc import Iterable

from posthouse.protocols.imap.render import flag_list, sequence_set
from posthouse.store.model import Changes


def update_lines(changes: Changes, *, condstore: bool = False, qresync: bool = False) -> bytes:
    """EXPUNGE or VANISHED, EXISTS, RECENT and FETCH FLAGS responses."""
    lines: list[bytes] = []
    if qresync and changes.vanished:
        lines.append(b"* VANISHED %b\r\n" % sequence_set(changes.vanished))
    elif changes.expunged:
        lines += [b"* %d EXPUNGE\r\n" % number for number in changes.expunged]
    if changes.exists is not None:
        lines.append(b"* %d EXISTS\r\n" % changes.exists)
    if changes.recent is not None:
        lines.append(b"* %d RECENT\r\n" % changes.recent)
    if condstore:
        lines += changed_lines(changes.flags, changes.modseqs)
    else:
        lines += [
            b"* %d FETCH (UID %d FLAGS %b)\r\n" % (number, uid, flag_list(flags))
            for number, uid, flags in changes.flags
        ]
    return b"".join(lines)


def changed_lines(flags: Iterable[tuple[int, int, frozenset[str]]], modseqs: Iterable[int]) -> list[bytes]:
    """FETCH responses as QRESYNC wants them: with UID, flags and modification sequence."""
    return [
        b"* %d FETCH (UID %d FLAGS %b MODSEQ (%d))\r\n" % (number, uid, flag_list(set_flags), modseq)
        for (number, uid, set_flags), modseq in zip(flags, modseqs, strict=True)
    ]
