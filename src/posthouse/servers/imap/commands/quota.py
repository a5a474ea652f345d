"""GETQUOTA and GETQUOTAROOT (RFC 9208 §4.1): one root, named by the empty string, for the whole account."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import GetQuota, GetQuotaRoot
from posthouse.protocols.imap.render import Completion, no, ok
from posthouse.protocols.imap.wildcards import is_shared

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def get_quota(session: "ImapSession", command: GetQuota) -> Completion:
    if command.root or not await _send_quota(session):
        return no("No such quota root", "NONEXISTENT")
    return ok("GETQUOTA completed")


async def get_quota_root(session: "ImapSession", command: GetQuotaRoot) -> Completion:
    await session.mailboxes.status(command.mailbox)
    # What another's account may have and has is not for those that he shares a mailbox with.
    limited = not is_shared(command.mailbox) and await session.mailboxes.quota() is not None
    session.engine.untagged(b"QUOTAROOT %b%b" % (session.mailbox_name(command.mailbox), b' ""' * limited))
    if limited:
        await _send_quota(session)
    return ok("GETQUOTAROOT completed")


async def _send_quota(session: "ImapSession") -> bool:
    """Whether there is a limit to tell of. STORAGE is in units of 1,024 octets (RFC 9208 §5.1)."""
    quota = await session.mailboxes.quota()
    if quota is None:
        return False
    words: list[str] = []
    if quota.limit_bytes:
        words.append(f"STORAGE {-(-quota.used_bytes // 1024)} {quota.limit_bytes // 1024}")
    if quota.limit_messages:
        words.append(f"MESSAGE {quota.used_messages} {quota.limit_messages}")
    session.engine.untagged(f'QUOTA "" ({" ".join(words)})'.encode())
    return True
