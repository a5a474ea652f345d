"""One account's mailboxes."""

from datetime import datetime

from posthouse.journal.content import Content
from posthouse.store.maildroplock import MaildropLock
from posthouse.store.model import Appended, MailboxInfo, Status
from posthouse.store.view import View


class AccountStore:
    async def mailboxes(self) -> list[MailboxInfo]:
        raise NotImplementedError

    async def create(self, name: str, special_use: str = "") -> None:
        raise NotImplementedError

    async def delete(self, name: str) -> None:
        raise NotImplementedError

    async def rename(self, old: str, new: str) -> None:
        raise NotImplementedError

    async def subscribe(self, name: str) -> None:
        raise NotImplementedError

    async def unsubscribe(self, name: str) -> None:
        raise NotImplementedError

    async def status(self, name: str) -> Status:
        raise NotImplementedError

    async def select(self, name: str, *, read_only: bool = False) -> View:
        raise NotImplementedError

    async def append(
        self, name: str, content: Content, flags: frozenset[str], internal_date: datetime | None
    ) -> Appended:
        raise NotImplementedError

    async def lock_maildrop(self) -> MaildropLock:
        """The maildrop for one POP3 session; ``close()`` frees it. Raises InUse."""
        raise NotImplementedError
