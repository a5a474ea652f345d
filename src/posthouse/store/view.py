"""One selected mailbox in one session."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, TypeVar

from posthouse.message.query import Query
from posthouse.store.fetch import Message
from posthouse.store.model import Changes, Copied, Want

T = TypeVar("T")


class View:
    name: str
    uidvalidity: int
    uidnext: int
    read_only: bool
    recent: int
    first_unseen: int
    keywords: tuple[str, ...]
    uids: Sequence[int]

    async def refresh(self, *, expunge: bool) -> Changes:
        raise NotImplementedError

    def fetch(self, uids: Sequence[int], want: Want, render: Callable[[Message], T]) -> AsyncIterator[list[T]]:
        raise NotImplementedError

    async def store_flags(
        self, uids: Sequence[int], flags: frozenset[str], mode: Literal["add", "remove", "replace"]
    ) -> list[tuple[int, frozenset[str]]]:
        raise NotImplementedError

    async def expunge(self, uids: Sequence[int] | None = None) -> None:
        raise NotImplementedError

    async def copy(self, uids: Sequence[int], target: str) -> Copied:
        raise NotImplementedError

    async def move(self, uids: Sequence[int], target: str) -> Copied:
        raise NotImplementedError

    async def search(self, query: Query) -> list[int]:
        raise NotImplementedError

    def on_change(self, callback: Callable[[], None] | None) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
