"""Both resolvers, with name servers that lie, cut off, fall silent and die: each look-up has its end in time."""

import asyncio
import ipaddress
import socket

import dns.message
import dns.rcode
import pytest
from tests.liar import Liar, answer, framed

from posthouse.runtime.resolver import DnsResolver, NoAnswer, ResolverTryLater
from posthouse.runtime.validating import ValidatingResolver

GOOD, EVIL = "A 192.0.2.1", "A 192.0.2.66"
PATIENT = {"timeout_seconds": 20.0, "try_seconds": 0.5}
SHORT = {"timeout_seconds": 0.4, "try_seconds": 0.25}
PATIENCE_SECONDS = 60.0


def plain(*ports, **times):
    return DnsResolver([f"127.0.0.1:{port}" for port in ports], **(times or PATIENT))


def validating(*ports, **times):
    return ValidatingResolver([("127.0.0.1", port) for port in ports], **(times or PATIENT))


@pytest.fixture(params=[plain, validating], ids=["plain", "validating"])
def make(request):
    return request.param


def ask(make, question, udp, tcp=None, *, holds=False, **times):
    async def go():
        async with Liar(udp, tcp, holds=holds) as liar:
            resolver = make(liar.port, **times)
            try:
                return await asyncio.wait_for(question(resolver), PATIENCE_SECONDS)
            finally:
                await resolver.close()

    return asyncio.run(go())


def addresses(resolver):
    return resolver.addresses("h.example")


def wrong_id(query):
    wire = answer(query, EVIL)
    return bytes([wire[0] ^ 1]) + wire[1:]


def wrong_question(query):
    other = dns.message.make_query("other.example", query.question[0].rdtype)
    other.id = query.id
    return answer(other, EVIL)


def wrong_kind(query):
    other = dns.message.make_query(query.question[0].name, "TXT")
    other.id = query.id
    return answer(other, 'TXT "evil"')


LIES = [wrong_id, wrong_question, wrong_kind, lambda query: b"", lambda query: b"\xff" * 40]
IDS = ["id", "question", "kind", "nothing", "rubbish"]


@pytest.mark.parametrize("lie", LIES, ids=IDS)
def test_what_does_not_answer_our_question_is_not_waited_for_beyond_the_limit(make, lie):
    with pytest.raises(ResolverTryLater):
        ask(make, addresses, lambda query: [lie(query)], **SHORT)


@pytest.mark.parametrize("lie", LIES[:2], ids=IDS[:2])
def test_a_forged_answer_before_the_right_one_changes_nothing(make, lie):
    assert ask(make, addresses, lambda query: [lie(query), answer(query, GOOD)]) == ["192.0.2.1"]


def test_records_of_a_name_that_was_not_asked_for_are_nobodys(make):
    with pytest.raises(NoAnswer):
        ask(make, addresses, lambda query: [answer(query, f"other.example!{EVIL}")])
    behind = lambda query: [answer(query, "CNAME b.example.", f"b.example!{GOOD}", f"other.example!{EVIL}")]  # noqa: E731
    assert ask(make, addresses, behind) == ["192.0.2.1"]


def cut_off(query):
    return [answer(query, EVIL, truncated=True)]


def test_what_is_cut_off_is_asked_for_again_over_tcp(make):
    """RFC 2181 §9"""
    many = addresses_of(900)
    found = ask(make, addresses, cut_off, lambda query: framed(answer(query, *many)))
    assert sorted(found) == sorted(record[2:] for record in many)


def addresses_of(number):
    return [f"A {ipaddress.IPv4Address(0xC0000200 + each)}" for each in range(number)]


def test_an_answer_that_is_work_to_read_is_not_read():
    with pytest.raises(ResolverTryLater):
        ask(validating, addresses, cut_off, lambda query: framed(answer(query, *addresses_of(2000))))


TCP_TROUBLE = {
    "refused": None,
    "closes": lambda query: b"",
    "half a length": lambda query: b"\1",
    "half": lambda query: framed(answer(query, EVIL))[:20],
    "rubbish": lambda query: framed(b"\xff" * 30),
    "wrong id": lambda query: framed(wrong_id(query)),
    "SERVFAIL": lambda query: framed(failed(query, dns.rcode.SERVFAIL)),
}


def failed(query, code):
    response = dns.message.make_response(query)
    response.set_rcode(code)
    return response.to_wire()


@pytest.mark.parametrize("trouble", [*TCP_TROUBLE, "closes, holds", "half, holds"])
def test_half_an_answer_is_none(make, trouble):
    kind, _, holds = trouble.partition(", ")
    with pytest.raises(ResolverTryLater):
        ask(make, addresses, cut_off, TCP_TROUBLE[kind], holds=bool(holds), **SHORT)


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_who_cannot_say_leaves_it_open(make, code):
    with pytest.raises(ResolverTryLater):
        ask(make, addresses, lambda query: [failed(query, code)], **SHORT)


QUESTIONS = {
    "A, AAAA": addresses,
    "MX": lambda resolver: resolver.mx("h.example"),
    "TXT": lambda resolver: resolver.txt("h.example"),
    "PTR": lambda resolver: resolver.ptr("192.0.2.1"),
    "TLSA": lambda resolver: resolver.tlsa("_25._tcp.h.example"),
    "CNAME": lambda resolver: resolver.alias_is_secure("h.example"),
}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_silent_server_ends_every_look_up_in_time(make, kind):
    if make is plain and kind in ("TLSA", "CNAME"):
        return
    with pytest.raises(ResolverTryLater):
        ask(make, QUESTIONS[kind], lambda query: [], **SHORT)


def test_an_answer_that_comes_late_is_taken_at_the_next_try(make):
    """A resolver that had to look around has it by then."""
    seen = []

    def slow(query):
        seen.append(query.question[0].rdtype)
        return [answer(query, GOOD)] if seen.count(query.question[0].rdtype) > 1 else []

    assert ask(make, addresses, slow) == ["192.0.2.1"]


@pytest.mark.parametrize("trouble", ["silent", "dead", "SERVFAIL", "REFUSED"])
def test_a_server_in_trouble_leaves_it_to_the_next(make, trouble):
    """And whoever answered is asked first from then on."""

    async def go():
        def bad(query):
            return [] if trouble == "silent" else [failed(query, dns.rcode.from_text(trouble))]

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
            dead.bind(("127.0.0.1", 0))
            async with Liar(bad) as first, Liar(lambda query: [answer(query, GOOD)]) as second:
                resolver = make(dead.getsockname()[1] if trouble == "dead" else first.port, second.port)
                try:
                    for _ in range(3):
                        assert await resolver.addresses("h.example") == ["192.0.2.1"]
                finally:
                    await resolver.close()
                return len(first.asked)

    assert asyncio.run(asyncio.wait_for(go(), PATIENCE_SECONDS)) < 6


def test_a_server_that_dies_and_comes_back_is_asked_again(make):
    async def go():
        async with Liar(lambda query: [answer(query, GOOD)]) as liar:
            resolver, port = make(liar.port), liar.port
            assert await resolver.addresses("one.example") == ["192.0.2.1"]
        resolver._timeout_seconds, patient = 0.6, resolver._timeout_seconds
        with pytest.raises(ResolverTryLater):
            await resolver.addresses("two.example")
        resolver._timeout_seconds = patient
        async with Liar(lambda query: [answer(query, GOOD)], port=port):
            assert await resolver.addresses("two.example") == ["192.0.2.1"]
        await resolver.close()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_SECONDS))


def chain(length):
    names = ["h.example", *[f"n{number}.example" for number in range(length)]]
    links = [f"{names[place]}!CNAME {names[place + 1]}." for place in range(length)]
    return [*links, f"{names[-1]}!{GOOD}"]


def test_a_chain_of_aliases_is_followed_whatever_its_order(make):
    assert ask(make, addresses, lambda query: [answer(query, *chain(10))]) == ["192.0.2.1"]
    assert ask(make, addresses, lambda query: [answer(query, *reversed(chain(10)))]) == ["192.0.2.1"]


@pytest.mark.parametrize("records", [chain(500), ["CNAME h.example."]], ids=["endless", "itself"])
def test_a_chain_without_sense_is_somebodys_mistake_of_today(make, records):
    with pytest.raises(ResolverTryLater):
        ask(make, addresses, cut_off, lambda query: framed(answer(query, *records)))
