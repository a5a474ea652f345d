"""What goes over one IMAP connection, compressed (RFC 4978) or not."""

import asyncio

from posthouse.protocols.imap.deflate import SLICE_BYTES, Deflate
from posthouse.runtime.connection import Connection


class Wire:
    """``connection`` with both directions compressed from ``compress`` to ``stop_compressing``."""

    __slots__ = ("_connection", "_deflate")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._deflate: Deflate | None = None

    @property
    def is_compressed(self) -> bool:
        return self._deflate is not None

    def compress(self) -> None:
        self._deflate = Deflate()

    def stop_compressing(self) -> bytes:
        """Returns what the client has said in clear already."""
        assert self._deflate is not None, "only what is compressed can stop"
        end, behind = self._deflate.end()
        self._connection.write(end)
        self._deflate = None
        return behind

    def rest(self) -> None:
        """Nothing will be sent for a while."""
        if self._deflate is not None:
            self._deflate.rest()

    def write(self, data: bytes) -> None:
        """What must not wait."""
        self._connection.write(data if self._deflate is None or not data else self._deflate.send(data))

    async def send(self, data: bytes) -> None:
        """Waits while the client is slow to read."""
        if self._deflate is None:
            if data:
                self._connection.write(data)
                await self._connection.drain()
            return
        for start in range(0, len(data), SLICE_BYTES):
            self.write(data[start : start + SLICE_BYTES])
            await self._connection.drain()
            await asyncio.sleep(0)  # compressing takes its time, and others wait

    async def read(self) -> bytes | None:
        """What the client has said; empty at its end, None when the connection was woken.

        Raises ``zlib.error`` for what is not compressed and should be.
        """
        if self._deflate is None:
            return await self._connection.read()
        while not (data := self._deflate.take()):
            octets = await self._connection.read()
            if not octets:
                return octets
            self._deflate.receive(octets)
        return data
