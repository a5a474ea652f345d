"""SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS (RFC 4314 §3).

Whether an identifier is somebody's login is never looked up: it would tell who has an account here.
"""

from typing import TYPE_CHECKING, Final

from posthouse.protocols.imap import rights
from posthouse.protocols.imap.acl import DeleteAcl, GetAcl, ListRights, MyRights, SetAcl
from posthouse.protocols.imap.render import Completion, astring, no, ok
from posthouse.store import acl as file

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

OWNER: Final = no("The owner always has all rights", "CANNOT")
GRANTABLE: Final = "l r s w i p k x c t e d a"
"""Each by itself; ``c`` and ``d`` are there for clients of RFC 2086 (RFC 4314 §2.1.1)."""


async def set_acl(session: "ImapSession", command: SetAcl) -> Completion:
    if file.written(command.identifier) == f"user={await session.mailboxes.owner(command.mailbox)}":
        # RFC 4314 §3.7: what LISTRIGHTS tells as always granted can't be taken away.
        return ok("The owner has all rights already") if command.rights == rights.ALL else OWNER
    await session.mailboxes.change_acl(command.mailbox, command.identifier, command.mode, command.rights)
    return ok("SETACL completed")


async def delete_acl(session: "ImapSession", command: DeleteAcl) -> Completion:
    await session.mailboxes.change_acl(command.mailbox, command.identifier, "replace", rights.NONE)
    return ok("DELETEACL completed")


async def get_acl(session: "ImapSession", command: GetAcl) -> Completion:
    entries = await session.mailboxes.acl(command.mailbox)
    pairs = [
        b" %b %b" % (astring(file.shown(entry).encode()), rights.compatible(letters).encode())
        for entry, letters in entries.items()
        if letters
    ]
    session.engine.untagged(b"ACL %b%b" % (session.mailbox_name(command.mailbox), b"".join(pairs)))
    return ok("GETACL completed")


async def list_rights(session: "ImapSession", command: ListRights) -> Completion:
    owner = await session.mailboxes.owner(command.mailbox)
    said = f'"" {GRANTABLE}'
    if file.written(command.identifier) == f"user={owner}":
        said = rights.compatible(rights.ALL)
    name = session.mailbox_name(command.mailbox)
    session.engine.untagged(b"LISTRIGHTS %b %b %b" % (name, astring(command.given), said.encode()))
    return ok("LISTRIGHTS completed")


async def my_rights(session: "ImapSession", command: MyRights) -> Completion:
    send_my_rights(session, command.mailbox, await session.mailboxes.my_rights(command.mailbox))
    return ok("MYRIGHTS completed")


def send_my_rights(session: "ImapSession", mailbox: str, granted: frozenset[str]) -> None:
    """The MYRIGHTS response (RFC 4314 §3.8)."""
    session.engine.untagged(b"MYRIGHTS %b %b" % (session.mailbox_name(mailbox), rights.compatible(granted).encode()))
