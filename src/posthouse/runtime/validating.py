"""DNS look-ups with what a validating resolver says about them.

Invariants:
  1. An answer is secure only if a resolver that we were told to believe has set the AD bit (RFC 6840 §5.8): one on
     loopback, or one that the operator trusts and the way to it. Others are not asked here.
  2. What fails validation comes as SERVFAIL, and is ``ResolverTryLater`` like any other trouble: never an answer,
     never "no such record".
  3. A datagram that doesn't answer our question, or comes from elsewhere, is as if it had not come.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from posthouse.runtime.resolver import (
    CHAIN_LIMIT,
    Answers,
    NoAnswer,
    NoSuchName,
    ResolverError,
    ResolverTryLater,
    Tlsa,
    counted,
)

_PAYLOAD = 1232
"""Largest datagram that is asked for: what gets through everywhere unfragmented."""
ANSWER_LIMIT = 16_384
"""Largest answer that is read, some hundred records: the work of reading a larger one is somebody's attack."""
_TROUBLE = (dns.exception.DNSException, OSError, EOFError)


class ValidatingResolver:
    """Asks validating resolvers, each an address and a port; first the one that has answered last."""

    def __init__(
        self, servers: Sequence[tuple[str, int]], *, timeout_seconds: float = 10.0, try_seconds: float = 3.0
    ) -> None:
        """``timeout_seconds`` bounds a look-up as a whole, ``try_seconds`` one question to one server."""
        self._servers = list(servers)
        self._timeout_seconds = timeout_seconds
        self._try_seconds = try_seconds

    async def mx(self, domain: str) -> Answers[tuple[int, str]]:
        """See ``Resolver``."""
        answer = await self._query(domain, "MX")
        return _each(answer, [(record.preference, _text(record.exchange)) for record in answer])

    async def addresses(self, host: str) -> Answers[str]:
        """See ``Resolver``; secure only if all of them are."""
        found = await asyncio.gather(self._query(host, "AAAA"), self._query(host, "A"), return_exceptions=True)
        answers = [answer for answer in found if isinstance(answer, Answers)]
        if answers:
            addresses = [record.address for answer in answers for record in answer]
            return Answers(addresses, is_secure=all(a.is_secure for a in answers), name=answers[0].name)
        for kind in (ResolverTryLater, NoAnswer, NoSuchName):
            for failure in found:
                if isinstance(failure, kind):
                    raise failure
        raise next(failure for failure in found if isinstance(failure, BaseException))

    async def txt(self, name: str) -> Answers[bytes]:
        """See ``Resolver``."""
        answer = await self._query(name, "TXT")
        return _each(answer, [b"".join(record.strings) for record in answer])

    async def ptr(self, address: str) -> Answers[str]:
        """See ``Resolver``."""
        answer = await self._query(ipaddress.ip_address(address).reverse_pointer, "PTR")
        return _each(answer, [_text(record.target) for record in answer])

    async def tlsa(self, name: str) -> Answers[Tlsa]:
        """TLSA records, whatever they are worth."""
        answer = await self._query(name, "TLSA")
        records = [Tlsa(record.usage, record.selector, record.mtype, bytes(record.cert)) for record in answer]
        return _each(answer, records)

    async def alias_is_secure(self, name: str) -> bool:
        """Whether this name is a CNAME, and its own zone vouches for that."""
        try:
            return (await self._query(name, "CNAME")).is_secure
        except (NoAnswer, NoSuchName):
            return False

    async def close(self) -> None:
        """Nothing is kept open between look-ups."""

    async def _query(self, name: str, kind: str) -> Answers[Any]:
        with counted(kind):
            return await self._find(name, kind)

    async def _find(self, name: str, kind: str) -> Answers[Any]:
        try:
            query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
        except (dns.exception.DNSException, UnicodeError, ValueError):
            raise NoSuchName(f"{name!a} is no host name") from None
        query.flags |= dns.flags.AD
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._ask(query)
        except TimeoutError:
            raise ResolverTryLater(f"{kind} of {name}: no answer within {self._timeout_seconds:g} s") from None
        except _TROUBLE as failure:
            raise ResolverTryLater(f"{kind} of {name}: {failure or type(failure).__name__}") from None
        return _read(response, name, kind)

    async def _ask(self, query: dns.message.Message) -> dns.message.Message:
        """The first answer that is one. Raises ``_TROUBLE``."""
        trouble: Exception = OSError("no name server")
        waiting = list(self._servers)
        while waiting:
            for server in tuple(waiting):
                try:
                    response = await self._ask_one(query, server)
                except dns.exception.Timeout as failure:
                    # It may have the answer by the next time.
                    trouble = failure
                except _TROUBLE as failure:
                    trouble = failure
                    waiting.remove(server)
                else:
                    self._prefer(server)
                    return response
        raise trouble

    async def _ask_one(self, query: dns.message.Message, server: tuple[str, int]) -> dns.message.Message:
        """Raises ``_TROUBLE``."""
        address, port = server
        response = await dns.asyncquery.udp(
            query, address, self._try_seconds, port, ignore_unexpected=True, ignore_errors=True
        )
        if response.flags & dns.flags.TC:
            response = await _ask_over_tcp(query, address, port, self._try_seconds)
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise OSError(f"{address} says {dns.rcode.to_text(response.rcode())}")
        return response

    def _prefer(self, server: tuple[str, int]) -> None:
        """Whoever does not answer is not waited for every time."""
        if self._servers[0] != server:
            self._servers.remove(server)
            self._servers.insert(0, server)


async def _ask_over_tcp(query: dns.message.Message, address: str, port: int, seconds: float) -> dns.message.Message:
    """RFC 2181 §9: what a datagram is too small for. Raises ``_TROUBLE``."""
    wire = query.to_wire()
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(len(wire).to_bytes(2, "big") + wire)
                size = int.from_bytes(await reader.readexactly(2), "big")
                if size > ANSWER_LIMIT:
                    raise OSError(f"{address} has an answer of {size} octets")
                response = dns.message.from_wire(await reader.readexactly(size))
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise dns.exception.Timeout(timeout=seconds) from None
    if not query.is_response(response):
        raise OSError(f"{address} answers another question")
    return response


def _read(response: dns.message.Message, name: str, kind: str) -> Answers[Any]:
    """The records at the end of the CNAMEs. Raises ``ResolverError``."""
    is_secure = bool(response.flags & dns.flags.AD)
    if response.rcode() == dns.rcode.NXDOMAIN:
        raise NoSuchName(f"{name} does not exist")
    try:
        if kind == "CNAME":
            return Answers(_records(response, response.question[0].name, kind), is_secure=is_secure, name=name)
        owner = _chased(response)
    except dns.exception.DNSException as failure:
        raise ResolverTryLater(f"{kind} of {name}: {failure}") from None
    records = _records(response, owner, kind)
    if not records:
        raise _nothing(f"{name} has no {kind} record", is_secure=is_secure)
    return Answers(records, is_secure=is_secure, name=_text(owner))


def _chased(response: dns.message.Message) -> dns.name.Name:
    """Where the CNAMEs in the answer lead. A chain without end is somebody's mistake of today."""
    owner = response.question[0].name
    for _ in range(CHAIN_LIMIT):
        aliases = _records(response, owner, "CNAME")
        if not aliases:
            return owner
        owner = aliases[0].target
    name = _text(response.question[0].name)
    raise ResolverTryLater(f"{name}: its CNAME records form a loop, or a chain that is too long")


def _records(response: dns.message.Message, owner: dns.name.Name, kind: str) -> list[Any]:
    wanted = dns.rdatatype.from_text(kind)
    return [record for rrset in response.answer if rrset.name == owner and rrset.rdtype == wanted for record in rrset]


def _nothing(text: str, *, is_secure: bool) -> ResolverError:
    failure = NoAnswer(text)
    failure.is_secure = is_secure
    return failure


def _each(answer: Answers[Any], records: list[Any]) -> Answers[Any]:
    return Answers(records, is_secure=answer.is_secure, name=answer.name)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""
