"""runtime/resolver.py, against a name server of our own on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from posthouse.runtime.resolver import DnsResolver, NoAnswer, NoSuchName, ResolverTryLater


class NameServer(asyncio.DatagramProtocol):
    """Answers from ``zone``: name -> list of "TYPE data", or a response code, or None for silence."""

    def __init__(self, zone: dict[str, list[str] | dns.rcode.Rcode | None]) -> None:
        self.zone = zone

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        found = self.zone.get(question.name.to_text(omit_final_dot=True).lower(), dns.rcode.NXDOMAIN)
        if found is None:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if isinstance(found, list):
            for record in found:
                owner, _, rest = record.partition("!")
                owner, rest = (owner, rest) if rest else (question.name.to_text(), owner)
                kind, _, value = rest.partition(" ")
                if kind in ("CNAME", dns.rdatatype.to_text(question.rdtype)):
                    response.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, value))
        else:
            response.set_rcode(found)
        self.transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def resolver(zone: dict[str, Any]) -> AsyncIterator[DnsResolver]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(zone), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    dns_resolver = DnsResolver([f"127.0.0.1:{port}"], timeout_seconds=0.3, try_seconds=0.25)
    try:
        yield dns_resolver
    finally:
        await dns_resolver.close()
        transport.close()


def ask(zone: dict[str, Any], question: Callable[[DnsResolver], Any]) -> Any:
    async def go() -> Any:
        async with resolver(zone) as dns_resolver:
            return await question(dns_resolver)

    return asyncio.run(go())


def test_mx_records_come_with_their_preferences():
    zone = {"a.example": ["MX 20 MX2.a.example.", "MX 10 mx1.a.example."]}
    assert sorted(ask(zone, lambda dns: dns.mx("a.example"))) == [(10, "mx1.a.example"), (20, "mx2.a.example")]


def test_a_null_mx_is_an_empty_host():
    """RFC 7505 §3"""
    assert ask({"a.example": ["MX 0 ."]}, lambda dns: dns.mx("a.example")) == [(0, "")]


def test_mx_records_are_found_behind_an_alias():
    zone = {"a.example": ["CNAME b.example.", "b.example.!MX 10 mx.b.example."]}
    assert ask(zone, lambda dns: dns.mx("a.example")) == [(10, "mx.b.example")]


def test_addresses_of_both_families_come_v6_first():
    zone = {"h.example": ["A 192.0.2.1", "AAAA 2001:db8::1"]}
    assert ask(zone, lambda dns: dns.addresses("h.example")) == ["2001:db8::1", "192.0.2.1"]


def test_one_family_is_enough():
    assert ask({"h.example": ["A 192.0.2.1"]}, lambda dns: dns.addresses("h.example")) == ["192.0.2.1"]


@pytest.mark.parametrize("name", ["nowhere.example", "a..b", "x" * 64 + ".example", "\udcff.example"])
def test_a_name_that_does_not_or_cannot_exist_is_no_such_name(name):
    for question in (lambda dns: dns.mx(name), lambda dns: dns.addresses(name)):
        with pytest.raises(NoSuchName):
            ask({}, question)


def test_a_name_without_such_records_is_no_answer():
    zone = {"a.example": ["TXT hello"]}
    for question in (lambda dns: dns.mx("a.example"), lambda dns: dns.addresses("a.example")):
        with pytest.raises(NoAnswer):
            ask(zone, question)


def test_a_server_that_fails_or_refuses_is_try_later():
    for code in (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP):
        with pytest.raises(ResolverTryLater):
            ask({"a.example": code}, lambda dns: dns.mx("a.example"))


def test_a_silent_server_is_try_later_within_the_limit():
    with pytest.raises(ResolverTryLater):
        ask({"a.example": None}, lambda dns: dns.addresses("a.example"))


def test_a_loop_of_aliases_is_try_later():
    zone = {"a.example": ["CNAME b.example.", "b.example.!CNAME a.example."]}
    with pytest.raises(ResolverTryLater):
        ask(zone, lambda dns: dns.mx("a.example"))


def test_an_alias_that_leads_to_nothing_is_no_answer():
    with pytest.raises(NoAnswer):
        ask({"a.example": ["CNAME b.example."]}, lambda dns: dns.mx("a.example"))


def test_text_records_are_joined_and_names_of_addresses_found():
    zone = {"t.example": ['TXT "one " "two"'], "1.2.0.192.in-addr.arpa": ["PTR H.example."]}
    assert ask(zone, lambda dns: dns.txt("t.example")) == [b"one two"]
    assert ask(zone, lambda dns: dns.ptr("192.0.2.1")) == ["h.example"]
