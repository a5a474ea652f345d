"""GETMETADATA and SETMETADATA (RFC 5464 §4.2, §4.3)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from posthouse.protocols.imap.metadata import INFINITY, GetMetadata, SetMetadata
from posthouse.protocols.imap.render import NIL, Completion, astring, literal8, no, ok, string

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

READ_ONLY: Final = no("Shared annotations of the server are not for clients to change", "NOPERM")


async def get_metadata(session: "ImapSession", command: GetMetadata) -> Completion:
    kept = await session.mailboxes.metadata(command.mailbox)
    if not command.mailbox:
        kept = {**kept, "/shared/admin": f"mailto:postmaster@{session.service.settings.hostname}".encode()}
    wanted = _below(command.entries, command.depth, kept) if command.depth else command.entries
    longest = 0
    if command.max_size is not None:
        too_long = {entry for entry in wanted if len(kept.get(entry, b"")) > command.max_size}
        longest = max((len(kept[entry]) for entry in too_long), default=0)
        wanted = [entry for entry in wanted if entry not in too_long]
    send_metadata(session, command.mailbox, wanted, kept)
    return ok("GETMETADATA completed", f"METADATA LONGENTRIES {longest}" if longest else "")


async def set_metadata(session: "ImapSession", command: SetMetadata) -> Completion:
    if not command.mailbox and any(entry.startswith("/shared/") for entry, _ in command.values):
        return READ_ONLY
    await session.mailboxes.set_metadata(command.mailbox, command.values)
    return ok("SETMETADATA completed")


def send_metadata(session: "ImapSession", mailbox: str, wanted: Sequence[str], kept: Mapping[str, bytes]) -> None:
    """The METADATA response; NIL is what an entry has that is not set (RFC 9590 §4)."""
    if wanted:
        pairs = [b"%b %b" % (astring(entry.encode("ascii")), _value(kept.get(entry))) for entry in wanted]
        name = session.mailbox_name(mailbox) if mailbox else b'""'
        session.engine.untagged(b"METADATA %b (%b)" % (name, b" ".join(pairs)))


def _below(entries: Sequence[str], depth: int, kept: Mapping[str, bytes]) -> list[str]:
    """What is set of these entries and of those below them (RFC 5464 §4.2.2)."""
    found: dict[str, None] = {}
    for entry in entries:
        for name in sorted(kept):
            below = name.removeprefix(f"{entry}/")
            if name == entry or (below != name and (depth == INFINITY or "/" not in below)):
                found[name] = None
    return list(found)


def _value(value: bytes | None) -> bytes:
    if value is None:
        return NIL
    return literal8(value) if b"\0" in value else string(value)
