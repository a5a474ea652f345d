"""A connection to one milter: what it is told and what it says, within its time.

Invariants:
  1. Every wait has an end, whatever the milter does; one that floods is cut off.
  2. A link that has failed stays failed.
"""

import asyncio
from collections.abc import Callable

from posthouse.config.milters import Milter
from posthouse.config.restrictions import parse_policy_endpoint
from posthouse.protocols.engine import Pause
from posthouse.protocols.milter.client import MilterClientEngine
from posthouse.protocols.milter.events import Answer, Broken, Change, Negotiated, Progress, ReplyWith

MOST_SECONDS = 600.0
"""However often it says that it is at work: the client won't wait longer (RFC 5321 §4.5.3.2.6)."""
MAX_CHANGES = 10_000
MAX_PROGRESS = 10_000


class MilterTrouble(Exception):
    """It can't be used; the text says why."""


Take = Callable[[Change], None]


class Link:
    """One connection."""

    def __init__(self, milter: Milter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.engine = MilterClientEngine()
        self._milter = milter
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, milter: Milter) -> "Link":
        """Connect and negotiate. Raises ``MilterTrouble``."""
        endpoint = parse_policy_endpoint(milter.address)
        try:
            async with asyncio.timeout(milter.timeout_seconds):
                if endpoint.path:
                    streams = await asyncio.open_unix_connection(endpoint.path)
                else:
                    streams = await asyncio.open_connection(endpoint.host, endpoint.port)
        except TimeoutError:
            raise MilterTrouble(f"no connection within {milter.timeout_seconds} s") from None
        except OSError as error:
            raise MilterTrouble(error.strerror or str(error)) from None
        link = cls(milter, *streams)
        try:
            await link.answer()
        except BaseException:
            link.cut()
            raise
        return link

    @property
    def is_usable(self) -> bool:
        """Whether it is still there, as far as is known."""
        return not self._writer.is_closing() and not self._reader.at_eof()

    def abort(self) -> None:
        """The message is over, if there is one; without waiting."""
        if self.engine.is_free:
            self.engine.abort()
            self._writer.write(self.engine.data_to_send())

    def leave(self) -> None:
        """The session is over; without waiting."""
        self.engine.quit()
        self._writer.write(self.engine.data_to_send())
        # Nobody stays for one that does not read.
        (self.cut if self._writer.transport.get_write_buffer_size() else self._writer.close)()

    def cut(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def answer(self, take: Take | None = None) -> Answer | ReplyWith:
        """What it says to what it was just told; ``take`` gets its changes. Raises ``MilterTrouble``."""
        limit = self._milter.timeout_seconds if take is None else self._milter.message_seconds
        if not self.engine.waits:
            event = self.engine.next_event()
            assert isinstance(event, Answer)
            return event
        try:
            async with asyncio.timeout(MOST_SECONDS), asyncio.timeout(limit) as deadline:
                return await self._answer(take, deadline, limit)
        except TimeoutError:
            raise self._failed(f"no answer within {limit} s") from None
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from None

    async def flush(self) -> None:
        """Send what has come together. Raises ``MilterTrouble``."""
        try:
            async with asyncio.timeout(self._milter.timeout_seconds):
                await self._send()
        except TimeoutError:
            raise self._failed("it does not read what it is sent") from None
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from None

    async def _send(self) -> None:
        self._writer.write(self.engine.data_to_send())
        await self._writer.drain()

    async def _answer(self, take: Take | None, deadline: asyncio.Timeout, limit: float) -> Answer | ReplyWith:
        changes = progress = 0
        while True:
            match self.engine.next_event():
                case Pause():
                    await self._send()
                    self.engine.receive(await self._reader.read(65_536))
                case Progress():
                    progress += 1
                    deadline.reschedule(asyncio.get_running_loop().time() + limit)
                case Broken(reason):
                    raise self._failed(reason)
                case Answer() | ReplyWith() as answer:
                    return answer
                case Negotiated():
                    return Answer.CONTINUE
                case change:
                    assert take is not None
                    changes += 1
                    take(change)
            if changes > MAX_CHANGES or progress > MAX_PROGRESS:
                raise self._failed("it does not come to an end")

    def _failed(self, reason: str) -> MilterTrouble:
        self.cut()
        return MilterTrouble(reason)
