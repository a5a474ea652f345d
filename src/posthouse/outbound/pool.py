"""Sessions that have done their work and wait a moment for more of the same use.

A session is kept for ``idle_seconds``; there are never more than ``limit``. Whoever takes one owns it.
"""

import asyncio

from posthouse.outbound.session import Session

TRANSACTIONS_PER_SESSION = 100
"""More would be impolite: others want that server's attention too."""


Use = tuple[str, str]
"""A destination, and how sessions with it are protected (``security.Level``)."""


class Pool:
    """The idle sessions of one courier."""

    def __init__(self, *, idle_seconds: float, limit: int) -> None:
        self._idle_seconds = idle_seconds
        self._limit = limit
        self._idle: dict[Use, list[tuple[Session, asyncio.TimerHandle]]] = {}
        self._count = 0
        self._leaving: set[asyncio.Task[None]] = set()

    def take(self, use: Use) -> Session | None:
        """An idle session of this use; it may turn out to be dead."""
        waiting = self._idle.get(use)
        if not waiting:
            return None
        session, timer = waiting.pop()
        timer.cancel()
        self._count -= 1
        if not waiting:
            del self._idle[use]
        return session

    def give(self, use: Use, session: Session) -> None:
        """Done with this session for now."""
        is_worn = session.transactions >= TRANSACTIONS_PER_SESSION
        if is_worn or not session.is_usable or self._count >= self._limit:
            self._end(session)
            return
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._expire, use, session)
        self._idle.setdefault(use, []).append((session, timer))
        self._count += 1

    async def close(self) -> None:
        """End all sessions, politely."""
        for use in list(self._idle):
            while (session := self.take(use)) is not None:
                self._end(session)
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _expire(self, use: Use, session: Session) -> None:
        waiting = self._idle[use]
        waiting[:] = [entry for entry in waiting if entry[0] is not session]
        self._count -= 1
        if not waiting:
            del self._idle[use]
        self._end(session)

    def _end(self, session: Session) -> None:
        task = asyncio.get_running_loop().create_task(session.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
