"""runtime/validating.py and runtime/nameservers.py, against a name server of our own on loopback."""

import asyncio

import dns.rcode
import pytest
from tests.validatingserver import ValidatingServer

from posthouse.config.settings import Dns
from posthouse.runtime.nameservers import split, validating_servers
from posthouse.runtime.resolver import NoAnswer, NoSuchName, ResolverTryLater, Tlsa
from posthouse.runtime.validating import ValidatingResolver

DIGEST = "ab" * 32


def ask(zone, question, secure=()):
    with ValidatingServer(zone, secure) as server:
        resolver = ValidatingResolver([("127.0.0.1", server.port)], timeout_seconds=0.4, try_seconds=0.3)
        return asyncio.run(question(resolver))


def test_an_answer_is_secure_where_the_resolver_says_so():
    zone = {"d.example": ["MX 10 MX.d.example."], "mx.d.example": ["A 192.0.2.1", "AAAA 2001:db8::1"]}
    for secure in ((), ("d.example", "mx.d.example")):
        mx = ask(zone, lambda dns: dns.mx("d.example"), secure)
        addresses = ask(zone, lambda dns: dns.addresses("mx.d.example"), secure)
        assert (mx, addresses) == ([(10, "mx.d.example")], ["2001:db8::1", "192.0.2.1"])
        assert (mx.is_secure, addresses.is_secure) == (bool(secure), bool(secure))


def test_addresses_are_secure_only_together():
    zone = {"h.example": ["A 192.0.2.1", "AAAA 2001:db8::1"]}
    assert not ask(zone, lambda dns: dns.addresses("h.example"), ("h.example A",)).is_secure


def test_tlsa_records_come_as_they_are():
    zone = {"_25._tcp.h.example": [f"TLSA 3 1 1 {DIGEST}", "TLSA 9 9 9 00"]}
    found = ask(zone, lambda dns: dns.tlsa("_25._tcp.h.example"))
    assert sorted(found, key=lambda one: one.usage) == [
        Tlsa(3, 1, 1, bytes.fromhex(DIGEST)),
        Tlsa(9, 9, 9, b"\0"),
    ]


def test_the_name_behind_aliases_is_told():
    zone = {"a.example": ["CNAME b.example.", "b.example!A 192.0.2.1"]}
    assert ask(zone, lambda dns: dns.addresses("a.example")).name == "b.example"


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (dns.rcode.SERVFAIL, ResolverTryLater),
        (dns.rcode.REFUSED, ResolverTryLater),
        (None, ResolverTryLater),
        (b"\0" * 5, ResolverTryLater),
        (["CNAME b.example.", "b.example!CNAME a.example."], ResolverTryLater),
        (["other.example!MX 10 evil.example."], NoAnswer),
        ([], NoAnswer),
        (dns.rcode.NXDOMAIN, NoSuchName),
    ],
    ids=["bogus", "refused", "silent", "rubbish", "loop", "about another name", "nothing", "no name"],
)
def test_what_is_no_answer_is_the_right_error(found, error):
    with pytest.raises(error):
        ask({"a.example": found}, lambda dns: dns.mx("a.example"))


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "\udcff.example", "a." * 200])
def test_a_name_that_cannot_exist_does_not(name):
    with pytest.raises(NoSuchName):
        ask({}, lambda dns: dns.mx(name))


def test_the_next_server_is_asked_when_one_fails():
    with (
        ValidatingServer({"d.example": dns.rcode.SERVFAIL}) as bad,
        ValidatingServer({"d.example": ["MX 1 m.example."]}) as good,
    ):
        resolver = ValidatingResolver([("127.0.0.1", bad.port), ("127.0.0.1", good.port)])
        assert asyncio.run(resolver.mx("d.example")) == [(1, "m.example")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Dns(("127.0.0.1:5353", "192.0.2.1")), [("127.0.0.1", 5353)]),
        (Dns(("192.0.2.1",)), []),
        (Dns(("192.0.2.1",), ("192.0.2.1",)), [("192.0.2.1", 53)]),
        (Dns(("[::1]:54",)), [("::1", 54)]),
    ],
)
def test_only_loopback_and_who_is_trusted_is_believed(settings, expected):
    """RFC 7672 §2.1: a resolver that is not on this host is only as good as the way to it."""
    assert validating_servers(settings) == expected


def test_the_systems_servers_are_those_of_resolv_conf(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("# hi\nnameserver 127.0.0.53\nnameserver rubbish\nnameserver fe80::1%eth0\nsearch x\n")
    assert validating_servers(Dns(), str(file)) == [("127.0.0.53", 53)]
    assert validating_servers(Dns(), str(tmp_path / "none")) == []


@pytest.mark.parametrize("text", ["host", "127.0.0.1:0", "127.0.0.1:x", ""])
def test_a_server_without_address_is_an_error(text):
    with pytest.raises(ValueError):
        split(text)
