"""A name server that does what it is told to: lies, cuts its answers off, falls silent, dies."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Self

import dns.flags
import dns.message
import dns.rrset

Datagrams = Callable[[dns.message.Message], list[bytes]]
Stream = Callable[[dns.message.Message], bytes]


class Liar(asyncio.DatagramProtocol):
    """On a port of 127.0.0.1. ``udp``: the datagrams that a query is answered with. ``tcp``: all octets that one gets
    that way, None where nobody listens; the connection ends with them, or never if ``holds``. ``asked``: queries."""

    def __init__(self, udp: Datagrams, tcp: Stream | None = None, *, holds: bool = False, port: int = 0) -> None:
        self.udp, self.tcp, self.holds, self.port = udp, tcp, holds, port
        self.asked: list[str] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", self.port))
        self.port = self._transport.get_extra_info("sockname")[1]
        if self.tcp is not None:
            self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query.question[0].to_text())
        for answer in self.udp(query):
            self._transport.sendto(answer, addr)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.tcp is not None
        self._writers.append(writer)
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            writer.write(self.tcp(dns.message.from_wire(await reader.readexactly(length))))
            await writer.drain()
            if self.holds:
                await asyncio.Event().wait()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def answer(query: dns.message.Message, *records: str, truncated: bool = False) -> bytes:
    """``TYPE data`` of the name that was asked for, or ``OWNER!TYPE data``; those of another type are left out."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA | (dns.flags.TC if truncated else 0)
    kind = query.question[0].rdtype.name
    for record in records:
        owner, _, rest = record.rpartition("!")
        its_kind, _, value = rest.partition(" ")
        if its_kind in (kind, "CNAME"):
            name = f"{owner}." if owner else query.question[0].name
            response.answer.append(dns.rrset.from_text(name, 60, "IN", its_kind, value))
    return response.to_wire(max_size=65_535)


def framed(message: bytes) -> bytes:
    """As it goes over TCP."""
    return struct.pack("!H", len(message)) + message
