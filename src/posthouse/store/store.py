"""The mail store of one process: opens accounts, names deliveries."""

from posthouse.journal.content import Content
from posthouse.journal.journal import Journal, Put
from posthouse.runtime.watch import Watch
from posthouse.store.account import AccountStore


class Store:
    def __init__(
        self, mail_root: str, journal: Journal, watch: Watch | None, *, threads: int = 4, hostname: str
    ) -> None:
        raise NotImplementedError

    async def plan_delivery(self, maildir: str, content: Content, prefix: bytes, *, folder: str = "INBOX") -> Put:
        """Names the file of a delivery; ``prefix`` has CRLF. Raises TryLater, BadMailboxName."""
        raise NotImplementedError

    def forget(self, maildir: str) -> None:
        """After an OSError of the journal: the Maildir may have been removed; plan again."""
        raise NotImplementedError

    def account(self, maildir: str, *, quota: str = "") -> AccountStore:
        raise NotImplementedError

    async def quota_room(self, maildir: str, quota: str) -> int | None:
        """Bytes left, 0 when full, None without a limit."""
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        """For the journal's recovery: is the message of this file anywhere in its account?"""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
