"""DNS look-ups, as mail needs them.

Every look-up ends within its time limit in an answer or in one of three errors, and the errors tell apart what a
mail host must tell apart: the name does not exist, it exists without such records, or nobody can say now.
Names in answers are lower-case ASCII without the final dot.

``DnsResolver`` asks anybody; ``validating.ValidatingResolver`` asks those whose word on DNSSEC counts, and its
answers say whether they are secure (RFC 4033 §5).
"""

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pycares
from aiodns import DNSResolver, error

from posthouse.runtime.measures import DNS_LOOKUPS, DNS_SECONDS

CHAIN_LIMIT = 20
"""Most names that an answer's CNAMEs lead through; resolvers follow about a dozen."""

_NO_SUCH_NAME = frozenset({error.ARES_ENOTFOUND, error.ARES_EBADNAME, error.ARES_ENONAME})


class ResolverError(Exception):
    """A look-up without an answer."""


class NoSuchName(ResolverError):
    """The name does not exist (NXDOMAIN), or can't."""


class NoAnswer(ResolverError):
    """The name exists, but has no records of this type."""

    is_secure = False


class ResolverTryLater(ResolverError):
    """Nobody can say now: a time-out, SERVFAIL, a refusal, a loop of CNAMEs."""


_RESULTS = {NoSuchName: "no_such_name", NoAnswer: "no_answer"}


@contextlib.contextmanager
def counted(kind: str) -> Iterator[None]:
    """Count a look-up, and how long it took, by what came of it."""
    began, result = time.monotonic(), "trouble"
    try:
        yield
        result = "answer"
    except ResolverError as error:
        result = _RESULTS.get(type(error), "trouble")
        raise
    finally:
        DNS_LOOKUPS.add(kind, result)
        DNS_SECONDS.observe(time.monotonic() - began)


T = TypeVar("T")


class Answers(list[T]):
    """Records that say where they come from. ``is_secure``: they were validated, all the way behind any CNAMEs;
    ``name`` is where those led."""

    def __init__(self, records: Iterable[T], *, is_secure: bool = False, name: str = "") -> None:
        super().__init__(records)
        self.is_secure = is_secure
        self.name = name


@dataclass(frozen=True, slots=True)
class Tlsa:
    """A TLSA record. RFC 6698 §2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes


def is_secure(records: object) -> bool:
    """Whether this answer was validated; a plain list never was."""
    return isinstance(records, Answers) and records.is_secure


class Resolver(Protocol):
    """What mail asks of the DNS. Every method raises the three errors above."""

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """Preferences and hosts, unsorted. A null MX (RFC 7505) is the host ``""``."""
        ...

    async def addresses(self, host: str) -> list[str]:
        """IPv6 addresses, then IPv4 ones."""
        ...

    async def txt(self, name: str) -> list[bytes]:
        """Each record's strings joined."""
        ...

    async def ptr(self, address: str) -> list[str]:
        """The names of an IP address, unverified."""
        ...


class DnsResolver:
    """Asks the system's name servers, or those given as ``host`` or ``host:port``."""

    def __init__(
        self, nameservers: Sequence[str] = (), *, timeout_seconds: float = 10.0, try_seconds: float = 2.0
    ) -> None:
        """``timeout_seconds`` bounds a look-up as a whole, ``try_seconds`` the first wait for one server."""
        self._timeout_seconds = timeout_seconds
        self._dns = DNSResolver(nameservers or None, timeout=try_seconds, tries=3)

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        return [(record.priority, _name(record.exchange)) for record in await self._query(domain, "MX")]

    async def addresses(self, host: str) -> list[str]:
        found = await asyncio.gather(self._query(host, "AAAA"), self._query(host, "A"), return_exceptions=True)
        addresses = [record.addr for answer in found if isinstance(answer, list) for record in answer]
        if addresses:
            return addresses
        # The weaker claim wins: one family that can't be asked leaves open whether the host has an address.
        for kind in (ResolverTryLater, NoAnswer, NoSuchName):
            for failure in found:
                if isinstance(failure, kind):
                    raise failure
        raise next(failure for failure in found if isinstance(failure, BaseException))

    async def txt(self, name: str) -> list[bytes]:
        return [record.data for record in await self._query(name, "TXT")]

    async def ptr(self, address: str) -> list[str]:
        name = ipaddress.ip_address(address).reverse_pointer
        return [_name(record.dname) for record in await self._query(name, "PTR")]

    async def close(self) -> None:
        await self._dns.close()

    async def _query(self, name: str, kind: str) -> list[Any]:
        with counted(kind):
            return await self._find(name, kind)

    async def _find(self, name: str, kind: str) -> list[Any]:
        """The records' data, behind any CNAMEs."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = (await self._dns.query_dns(name, kind)).answer
        except TimeoutError:
            raise ResolverTryLater(f"{kind} of {name}: no answer within {self._timeout_seconds:g} s") from None
        except UnicodeError:
            raise NoSuchName(f"{name!a} is no host name") from None
        except error.DNSError as failure:
            raise _translated(failure, name, kind) from None
        owner = _chased(name, answer)
        records = [record.data for record in answer if record.type == _TYPES[kind] and _name(record.name) == owner]
        if not records:
            raise NoAnswer(f"{name} has no {kind} record")
        return records


_TYPES = {
    "A": pycares.QUERY_TYPE_A,
    "AAAA": pycares.QUERY_TYPE_AAAA,
    "MX": pycares.QUERY_TYPE_MX,
    "PTR": pycares.QUERY_TYPE_PTR,
    "TXT": pycares.QUERY_TYPE_TXT,
}


def _translated(failure: error.DNSError, name: str, kind: str) -> ResolverError:
    code, text = (*failure.args, "")[:2]
    if code in _NO_SUCH_NAME:
        return NoSuchName(f"{name} does not exist")
    if code == error.ARES_ENODATA:
        return NoAnswer(f"{name} has no {kind} record")
    return ResolverTryLater(f"{kind} of {name}: {text}")


def _chased(name: str, answer: Sequence[pycares.DNSRecord]) -> str:
    """Where the CNAMEs in the answer lead. A chain without end is a mistake of today, not a missing record."""
    aliases = {
        _name(record.name): _name(record.data.cname)
        for record in answer
        if isinstance(record.data, pycares.CNAMERecordData)
    }
    owner = _name(name)
    for _ in range(CHAIN_LIMIT):
        if owner not in aliases:
            return owner
        owner = aliases[owner]
    raise ResolverTryLater(f"{name}: its CNAME records form a loop, or a chain that is too long")


def _name(name: str) -> str:
    return name.rstrip(".").lower()
