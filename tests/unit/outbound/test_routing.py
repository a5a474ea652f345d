"""outbound/routing.py"""

import asyncio

import pytest

from posthouse.base.errors import Refused, TryLater
from posthouse.outbound.routing import NOBODY, NextHop, OwnHost, find_targets, parse_nexthop
from posthouse.runtime.resolver import NoAnswer, NoSuchName, ResolverTryLater


class Zone:
    """A resolver whose world is two dictionaries; an exception class in them is raised."""

    def __init__(self, mx=None, addresses=None):
        self._mx = mx or {}
        self._addresses = addresses or {}

    async def mx(self, domain):
        return self._answer(self._mx, domain)

    async def addresses(self, host):
        return self._answer(self._addresses, host)

    async def txt(self, name):
        raise NoSuchName(name)

    async def ptr(self, address):
        raise NoSuchName(address)

    def _answer(self, table, name):
        found = table.get(name, NoSuchName)
        if isinstance(found, list):
            return found
        raise found(name)


def targets(nexthop, zone, own=NOBODY):
    found = asyncio.run(find_targets(parse_nexthop(nexthop), zone, port=25, own=own))
    return [(target.host, target.address, target.port) for target in found]


@pytest.mark.parametrize(
    ("text", "nexthop"),
    [
        ("Example.ORG", NextHop("example.org", 0, False)),
        ("example.org:587", NextHop("example.org", 587, False)),
        ("[mail.example.org]", NextHop("mail.example.org", 0, True)),
        ("[mail.example.org]:2525", NextHop("mail.example.org", 2525, True)),
        ("[192.0.2.1]", NextHop("192.0.2.1", 0, True)),
        ("127.0.0.1:2525", NextHop("127.0.0.1", 2525, True)),
        ("[IPv6:2001:db8::1]", NextHop("2001:db8::1", 0, True)),
        ("[::1]:2525", NextHop("::1", 2525, True)),
    ],
)
def test_next_hops_are_read_in_every_form(text, nexthop):
    assert parse_nexthop(text) == nexthop


@pytest.mark.parametrize("text", ["", "[]", "[a", "[a]b", "a:x", "a:0", "a:65536", "[a]:", ":25"])
def test_a_next_hop_that_makes_no_sense_is_an_error(text):
    if text == "[a]:":
        assert parse_nexthop(text) == NextHop("a", 0, True)
        return
    with pytest.raises(ValueError):
        parse_nexthop(text)


def test_hosts_are_tried_by_preference_with_all_their_addresses():
    """RFC 5321 §5.1"""
    zone = Zone(
        {"d.example": [(20, "b.example"), (10, "a.example")]},
        {"a.example": ["2001:db8::a", "192.0.2.1"], "b.example": ["192.0.2.2"]},
    )
    assert targets("d.example", zone) == [
        ("a.example", "2001:db8::a", 25),
        ("a.example", "192.0.2.1", 25),
        ("b.example", "192.0.2.2", 25),
    ]


def test_hosts_of_equal_preference_share_the_load():
    names = [f"h{number}.example" for number in range(4)]
    zone = Zone({"d.example": [(5, name) for name in names]}, {name: ["192.0.2.1"] for name in names})
    firsts = {targets("d.example", zone)[0][0] for _ in range(200)}
    assert firsts == set(names)


def test_a_domain_without_mx_is_its_own_host():
    zone = Zone({"d.example": NoAnswer}, {"d.example": ["192.0.2.9"]})
    assert targets("d.example:2525", zone) == [("d.example", "192.0.2.9", 2525)]


def test_brackets_skip_the_mx_look_up():
    zone = Zone({"d.example": [(10, "other.example")]}, {"d.example": ["192.0.2.9"]})
    assert targets("[d.example]", zone) == [("d.example", "192.0.2.9", 25)]


def test_a_host_without_address_is_passed_over():
    zone = Zone({"d.example": [(10, "gone.example"), (20, "b.example")]}, {"b.example": ["192.0.2.2"]})
    assert targets("d.example", zone) == [("b.example", "192.0.2.2", 25)]


def test_the_number_of_tries_is_bounded():
    zone = Zone(
        {"d.example": [(number, f"h{number}.example") for number in range(1000)]},
        {f"h{number}.example": ["192.0.2.1", "192.0.2.2"] for number in range(1000)},
    )
    assert len(targets("d.example", zone)) == 10


SIXES = [f"2001:db8::{number:x}" for number in range(1, 1001)]
FOURS = [f"192.0.2.{number}" for number in range(1, 200)]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (SIXES + FOURS, SIXES[:3] + FOURS[:3]),
        (SIXES, SIXES[:6]),
        (FOURS, FOURS[:6]),
        (SIXES + FOURS[:1], SIXES[:5] + FOURS[:1]),
        (SIXES[:1] + FOURS, SIXES[:1] + FOURS[:5]),
        (SIXES[:3] + FOURS[:3], SIXES[:3] + FOURS[:3]),
    ],
)
def test_a_host_of_a_thousand_addresses_is_tried_at_a_few_of_both_families(addresses, expected):
    """And leaves the next host its turn."""
    zone = Zone({"d.example": [(1, "a.example"), (2, "b.example")]}, {"a.example": addresses, "b.example": ["::2"]})
    assert [address for _, address, _ in targets("d.example", zone)] == [*expected, "::2"]
    assert [address for _, address, _ in targets("[a.example]", zone)] == expected


def test_this_host_is_found_among_many_addresses():
    zone = Zone({"d.example": [(1, "a.example")]}, {"a.example": SIXES + FOURS})
    with pytest.raises(Refused):
        targets("d.example", zone, OwnHost(addresses=frozenset({FOURS[30]})))


@pytest.mark.parametrize(
    ("zone", "error", "status"),
    [
        (Zone({"d.example": [(0, "")]}), Refused, "5.1.10"),
        (Zone(), Refused, "5.1.2"),
        (Zone({"d.example": ResolverTryLater}), TryLater, "4.4.3"),
        (Zone({"d.example": [(1, "a.example")]}, {"a.example": ResolverTryLater}), TryLater, "4.4.3"),
        (Zone({"d.example": [(1, "a.example")]}), Refused, "5.4.4"),
        (Zone({"d.example": NoAnswer}, {"d.example": NoAnswer}), Refused, "5.4.4"),
    ],
    ids=["null MX", "no domain", "MX unknown now", "address unknown now", "MX without address", "no address"],
)
def test_what_leads_nowhere_is_refused_and_what_is_unknown_is_tried_later(zone, error, status):
    """RFC 7505 §4.1 for the null MX"""
    with pytest.raises(error) as raised:
        targets("d.example", zone)
    assert raised.value.reply.status == status


ZONE_WITH_US = Zone(
    {"d.example": [(10, "a.example"), (20, "us.example"), (20, "peer.example"), (30, "c.example")]},
    {
        name: [f"192.0.2.{number}"]
        for number, name in enumerate(("a.example", "us.example", "peer.example", "c.example"))
    },
)


@pytest.mark.parametrize(
    "own", [OwnHost(names=frozenset({"us.example"})), OwnHost(addresses=frozenset({"192.0.2.1"}))]
)
def test_a_backup_host_sends_only_to_better_hosts(own):
    assert targets("d.example", ZONE_WITH_US, own) == [("a.example", "192.0.2.0", 25)]


def test_mail_whose_best_host_is_this_one_loops():
    own = OwnHost(names=frozenset({"a.example"}))
    with pytest.raises(Refused) as raised:
        targets("d.example", ZONE_WITH_US, own)
    assert raised.value.reply.status == "5.4.6"
