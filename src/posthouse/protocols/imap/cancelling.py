"""CANCELUPDATE: results that the client wants to hear no more of (RFC 5267 §4.3.5)."""

from dataclasses import dataclass

from posthouse.protocols.imap.commands import Command
from posthouse.protocols.imap.cursor import Cursor


@dataclass(frozen=True, slots=True)
class CancelUpdate(Command):
    """CANCELUPDATE (RFC 5267 §4.3.5); ``tags`` are those of the searches."""

    tags: tuple[bytes, ...]


def parse_cancel_update(tag: bytes, cursor: Cursor) -> Command:
    """``"tag" *(SP "tag")``."""
    cursor.space()
    tags = [cursor.string()]
    while cursor.skip(b" "):
        tags.append(cursor.string())
    return CancelUpdate(tag, tuple(tags))
