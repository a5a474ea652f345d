"""What the DNS can do to mail: the SMTP courier with each resolver, a name server and a host on loopback."""

import asyncio
from ipaddress import ip_network

import dns.message
import dns.rcode
import pytest
from tests.liar import Liar, answer
from tests.unit.outbound.test_couriers import BOB, PATIENT, Server, make_message

from posthouse.base.errors import PosthouseError
from posthouse.outbound.routing import OwnHost
from posthouse.outbound.smtp import SmtpCourier
from posthouse.runtime.resolver import DnsResolver
from posthouse.runtime.validating import ValidatingResolver

LOOPBACK = (ip_network("127.0.0.0/8"),)
HERE = "A 127.0.0.1"


@pytest.fixture(params=["plain", "validating"])
def send(request, tmp_path):
    """Deliver by a zone of ``name -> records``, a response code or silence; what became of it, who was asked."""

    def send(zone, *, own=OwnHost(), **times):  # noqa: B008 - a value
        async def go():
            def say(query):
                found = zone.get(query.question[0].name.to_text(omit_final_dot=True).lower(), dns.rcode.NXDOMAIN)
                return [] if found is None else [_answer(query, found)]

            async with Server() as server, Liar(say) as names:
                times_given = times or {"timeout_seconds": 20.0}
                if request.param == "plain":
                    resolver = DnsResolver([f"127.0.0.1:{names.port}"], **times_given)
                else:
                    resolver = ValidatingResolver([("127.0.0.1", names.port)], **times_given)
                smtp = SmtpCourier("us.example", resolver, own=own, port=server.port, timeouts=PATIENT)
                try:
                    (outcome,) = await smtp.deliver(make_message(tmp_path), [BOB], "d.example")
                    found = type(outcome).__name__, outcome.reply.status, outcome.remote
                except PosthouseError as error:
                    found = type(error).__name__, error.reply.status, ""
                finally:
                    await smtp.close()
                    await resolver.close()
                return found, names.asked

        return asyncio.run(asyncio.wait_for(go(), 60))

    return send


def _answer(query, found):
    if isinstance(found, list):
        return answer(query, *found)
    response = dns.message.make_response(query)
    response.set_rcode(found)
    return response.to_wire()


def chain(first, length, *last):
    names = [first, *[f"c{number}.example" for number in range(length)]]
    links = [f"{names[place]}!CNAME {names[place + 1]}." for place in range(length)]
    return [*links, *[f"{names[-1]}!{record}" for record in last]]


TAKEN = ("Delivered", "2.0.0", "mx.d.example")
WAITS, NOWHERE = ("TryLater", "4.4.3", ""), ("Refused", "5.4.4", "")
MX = ["MX 10 mx.d.example."]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({"d.example": MX, "mx.d.example": [HERE]}, TAKEN),
        ({"d.example": MX, "mx.d.example": chain("mx.d.example", 1, HERE)}, TAKEN),
        ({"d.example": MX, "mx.d.example": chain("mx.d.example", 10, HERE)}, TAKEN),
        ({"d.example": chain("d.example", 10, *MX), "mx.d.example": [HERE]}, TAKEN),
        ({"d.example": MX, "mx.d.example": chain("mx.d.example", 40, HERE)}, WAITS),
        ({"d.example": MX, "mx.d.example": ["CNAME mx.d.example."]}, WAITS),
        ({"d.example": ["CNAME e.example.", "e.example!CNAME d.example."]}, WAITS),
        ({"d.example": chain("d.example", 40, *MX)}, WAITS),
        ({"d.example": MX, "mx.d.example": dns.rcode.SERVFAIL}, WAITS),
        ({"d.example": dns.rcode.REFUSED}, WAITS),
        ({"d.example": MX}, NOWHERE),
        ({"d.example": MX, "mx.d.example": ["other.example!A 127.0.0.1"]}, NOWHERE),
        ({"d.example": ["MX 10 127.0.0.1."]}, NOWHERE),
        ({"d.example": ["MX 5 bad.example.", *MX], "bad.example": dns.rcode.REFUSED, "mx.d.example": [HERE]}, TAKEN),
        ({"d.example": ["MX 5 gone.example.", *MX], "mx.d.example": [HERE]}, TAKEN),
    ],
    ids=[
        "plainly", "MX is an alias", "MX is a long chain", "domain is a long chain", "endless", "MX is its own alias",
        "domain loops", "endless too", "SERVFAIL", "REFUSED", "no address", "another's address", "MX is an address",
        "first fails", "first is nowhere",
    ],
)  # fmt: skip
def test_mail_finds_its_way_waits_or_comes_back(send, zone, expected):
    """RFC 5321 §5.1"""
    assert send(zone)[0] == expected


def test_mail_waits_where_nobody_answers(send):
    assert send({"d.example": None}, timeout_seconds=0.3, try_seconds=0.25)[0] == WAITS
    zone = {"d.example": MX, "mx.d.example": None}
    assert send(zone, timeout_seconds=0.3, try_seconds=0.25)[0] == WAITS


def test_a_hundred_mail_hosts_cost_a_bounded_number_of_look_ups(send):
    """All of them at an address of ours where nobody listens: ten are tried."""
    zone = {"d.example": [f"MX {number} h{number}.example." for number in range(100)]}
    zone |= {f"h{number}.example": [f"A 127.0.1.{number + 1}"] for number in range(100)}
    (kind, _, _), asked = send(zone)
    assert kind == "Deferred"
    assert len(asked) == 1 + 2 * 20


@pytest.mark.parametrize(
    ("zone", "own"),
    [
        ({"d.example": MX, "mx.d.example": [HERE]}, OwnHost(bogus=LOOPBACK)),
        ({"d.example": MX, "mx.d.example": [HERE]}, OwnHost(addresses=frozenset({"127.0.0.1"}))),
        ({"d.example": MX, "mx.d.example": [HERE]}, OwnHost(names=frozenset({"mx.d.example"}))),
        ({"d.example": MX, "mx.d.example": chain("mx.d.example", 3, HERE)}, OwnHost(bogus=LOOPBACK)),
        ({"d.example": [HERE]}, OwnHost(bogus=LOOPBACK)),
        ({"d.example": MX, "mx.d.example": ["AAAA ::ffff:127.0.0.1"]}, OwnHost(bogus=LOOPBACK)),
    ],
    ids=["loopback", "our address", "our name", "behind aliases", "without MX", "mapped"],
)
def test_mail_whose_domain_points_to_us_comes_back(send, zone, own):
    (kind, status, _), _ = send(zone, own=own)
    assert (kind, status) == ("Refused", "5.4.6" if own.bogus == () else "5.4.4")
