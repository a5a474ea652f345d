"""Closing the files of messages that are gone.

The kernel frees a removed file's blocks when it is closed for the last time, and that takes longer than anything else
about the message: a thread does it, for all that have gathered meanwhile.
"""

import asyncio
from collections.abc import Iterable

from posthouse.mailqueue.spool import Claim


class Disposal:
    """Claims that nobody needs any more."""

    def __init__(self) -> None:
        self._claims: list[Claim] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, claim: Claim) -> None:
        """Release it soon."""
        self._claims.append(claim)
        if self._task is None:
            self._task = asyncio.create_task(self._release())

    async def close(self) -> None:
        """Until all are released."""
        if self._task is not None:
            await self._task

    async def _release(self) -> None:
        try:
            while self._claims:
                claims, self._claims = self._claims, []
                await asyncio.to_thread(_release, claims)
        finally:
            self._task = None


def _release(claims: Iterable[Claim]) -> None:
    for claim in claims:
        claim.release()
