"""services/restrictions/lists.py with all that it asks, against a name server on loopback."""

import asyncio
import dataclasses
import time

import dns.rcode
import pytest
from tests.nameserver import SILENT, NameServer

from posthouse.base.clock import FakeClock
from posthouse.base.errors import Refused, Reply
from posthouse.config.reception import DnsListSites
from posthouse.config.settings import Settings, Smtp
from posthouse.runtime.resolver import DnsResolver
from posthouse.services.restrictions.dnslists import SILENT_SECONDS, UNLISTED_SECONDS, DnsLists
from posthouse.services.restrictions.facts import Facts
from posthouse.services.restrictions.lists import Restrictions

ZONE = {
    "1.2.0.192.in-addr.arpa": ["PTR mail.example.org."],
    "mail.example.org": ["A 192.0.2.1"],
    "2.2.0.192.in-addr.arpa": ["PTR liar.example.org."],
    "liar.example.org": ["A 203.0.113.1"],
    "4.2.0.192.in-addr.arpa": dns.rcode.SERVFAIL,
    "example.org": ["MX 10 mail.example.org."],
    "null.example": ["MX 0 ."],
    "broken.example": dns.rcode.SERVFAIL,
    "1.2.0.192.bl.example": ["A 127.0.0.4", 'TXT "see us"'],
    "1.2.0.192.other.example": ["A 127.0.0.2"],
    "1.2.0.192.wl.example": ["A 127.0.5.1"],
    "1.2.0.192.dead.example": SILENT,
    "1.2.0.192.failing.example": dns.rcode.SERVFAIL,
    "example.org.rhs.example": ["A 127.0.1.2"],
    "helo.example.rhs.example": ["A 127.0.1.2"],
}


class House:
    """A directory that hosts example.test with one address."""

    async def is_hosted(self, domain):
        return domain == "example.test"

    async def resolve(self, address):
        if address.endswith("@example.test") and not address.startswith("alice@"):
            raise Refused(Reply(550, "5.1.1", "No such address"), "unknown")
        return dataclasses.make_dataclass("Resolution", ["relay"])(not address.endswith("@example.test"))


@pytest.fixture(scope="module")
def names():
    with NameServer(ZONE) as server:
        yield server


@pytest.fixture
def ask(names, tmp_path):
    """The outcome of lists, given as settings, for one recipient; ``steps`` collects what was gone through."""

    def ask(lists, steps=None, stage="RCPT", sites=(), threshold=1, **facts):
        settings = Settings(
            data_dir=str(tmp_path),
            smtp=Smtp(**{f"{stage}_restrictions": tuple(ones) for stage, ones in lists.items()}),
            dnslists=DnsListSites(tuple(sites), threshold),
        )

        async def go():
            resolver = DnsResolver([names.address], timeout_seconds=2, try_seconds=0.5)
            dns_lists = DnsLists([names.address], timeout_seconds=0.4)
            restrictions = Restrictions(settings, House(), resolver, dns_lists)
            try:
                known = {"helo": "helo.example", "sender": "a@example.org", "recipient": "alice@example.test"} | facts
                walk = restrictions.data if stage == "DATA" else restrictions.recipient
                client = known.pop("client", "192.0.2.1")
                met = Facts(client, House(), resolver, dns_lists, stage=stage, **known)
                return await walk(met, steps.append if steps is not None else None)
            finally:
                await restrictions.close()
                await dns_lists.close()
                await resolver.close()

        return asyncio.run(go())

    return ask


def code(outcome):
    return f"{outcome.reply.code} {outcome.reply.status}" if outcome.reply else "in"


ONE_WORD = [
    ("permit_mynetworks", {}, "in"),
    ("reject", {}, "554 5.7.1"),
    ("defer", {}, "450 4.7.1"),
    ("defer_if_permit", {}, "450 4.7.1"),
    ("warn_if_reject reject", {}, "in"),
    ("reject_unknown_client_hostname", {}, "in"),
    ("reject_unknown_client_hostname", {"client": "192.0.2.2"}, "450 4.7.25"),
    ("reject_unknown_client_hostname", {"client": "192.0.2.3"}, "450 4.7.25"),
    ("reject_unknown_client_hostname", {"client": "192.0.2.4"}, "450 4.7.25"),
    ("reject_unknown_reverse_client_hostname", {"client": "192.0.2.2"}, "in"),
    ("reject_unknown_reverse_client_hostname", {"client": "192.0.2.3"}, "450 4.7.25"),
    ("reject_invalid_helo_hostname", {"helo": "a..b"}, "501 5.5.2"),
    ("reject_invalid_helo_hostname", {"helo": "[192.0.2.1]"}, "in"),
    ("reject_non_fqdn_helo_hostname", {"helo": "host"}, "504 5.5.2"),
    ("reject_non_fqdn_helo_hostname", {"helo": "192.0.2.1"}, "504 5.5.2"),
    ("reject_non_fqdn_helo_hostname", {"helo": "[IPv6:2001:db8::1]"}, "in"),
    ("reject_unknown_helo_hostname", {"helo": "nowhere.example"}, "450 4.7.1"),
    ("reject_unknown_helo_hostname", {"helo": "broken.example"}, "450 4.7.1"),
    ("reject_unknown_helo_hostname", {"helo": "mail.example.org"}, "in"),
    ("reject_non_fqdn_sender", {"sender": "a@localhost"}, "504 5.5.2"),
    ("reject_non_fqdn_sender", {"sender": ""}, "in"),
    ("reject_non_fqdn_recipient", {"recipient": "a@localhost"}, "504 5.5.2"),
    ("reject_unknown_sender_domain", {}, "in"),
    ("reject_unknown_sender_domain", {"sender": "a@mail.example.org"}, "in"),
    ("reject_unknown_sender_domain", {"sender": "a@nowhere.example"}, "450 4.1.8"),
    ("reject_unknown_sender_domain", {"sender": "a@null.example"}, "550 5.7.27"),
    ("reject_unknown_sender_domain", {"sender": "a@example.test"}, "in"),
    ("reject_unknown_recipient_domain", {"recipient": "a@nowhere.example"}, "450 4.1.2"),
    ("reject_unknown_recipient_domain", {"recipient": "a@null.example"}, "556 5.1.10"),
    ("reject_unauth_destination", {"recipient": "a@example.org"}, "554 5.7.1"),
    ("reject_unauth_destination", {"recipient": "a@example.org", "login": "alice@example.test"}, "in"),
    ("reject_unlisted_recipient", {"recipient": "bob@example.test"}, "550 5.1.1"),
    ("reject_unlisted_sender", {"sender": "bob@example.test"}, "550 5.1.0"),
    ("reject_sender_login_mismatch", {"sender": "alice@example.test"}, "553 5.7.1"),
    ("reject_plaintext_session", {}, "450 4.7.1"),
    ("reject_unauth_pipelining", {"has_run_ahead": True}, "503 5.5.0"),
    ("reject_multi_recipient_bounce", {"sender": "", "recipients": 1}, "550 5.5.3"),
    ("reject_rbl_client bl.example", {}, "554 5.7.1"),
    ("reject_rbl_client bl.example=127.0.0.[2..3]", {}, "in"),
    ("reject_rbl_client bl.example", {"client": "192.0.2.9"}, "in"),
    ("reject_rbl_client dead.example", {}, "in"),
    ("reject_rbl_client failing.example", {}, "in"),
    ("reject_rhsbl_sender rhs.example", {}, "554 5.7.1"),
    ("reject_rhsbl_sender rhs.example", {"sender": ""}, "in"),
    ("reject_rhsbl_helo rhs.example", {}, "554 5.7.1"),
    ("reject_rhsbl_recipient rhs.example", {"recipient": "a@example.org"}, "554 5.7.1"),
    ("reject_rhsbl_client rhs.example", {"client": "192.0.2.3"}, "in"),
    ("check_policy_service unix:/nowhere/at/all", {}, "451 4.3.5"),
]


@pytest.mark.parametrize(("word", "facts", "expected"), ONE_WORD)
def test_a_word_means_what_it_says(ask, word, facts, expected):
    assert code(ask({"recipient": [word]}, **facts)) == expected


def test_to_permit_ends_its_own_list_only(ask):
    steps = []
    assert code(ask({"client": ["permit", "reject"], "sender": ["reject"]}, steps)) == "554 5.7.1"
    assert [(step.stage, step.restriction) for step in steps] == [("client", "permit"), ("sender", "reject")]


def test_what_could_not_be_found_out_defers_what_is_permitted_and_refuses_what_is_refused(ask):
    unsure = ["reject_unknown_sender_domain", "permit"]
    facts = {"sender": "a@broken.example"}
    assert code(ask({"sender": unsure}, **facts)) == "450 4.1.8"
    assert code(ask({"sender": unsure, "recipient": ["reject"]}, **facts)) == "554 5.7.1"


def test_a_white_list_that_does_not_answer_defers_what_is_refused_later(ask):
    white = "permit_dnswl_client failing.example"
    assert code(ask({"client": [white, "reject"]})) == "450 4.7.1"
    assert code(ask({"client": [white]})) == "in"
    assert code(ask({"client": ["permit_dnswl_client wl.example", "reject"]})) == "in"


def test_the_client_hears_the_lists_text_and_the_log_the_answer(ask):
    outcome = ask({"client": ["reject_rbl_client bl.example"]})
    assert str(outcome.reply) == (
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example; see us"
    )
    assert outcome.reason == "client: reject_rbl_client bl.example: 1.2.0.192.bl.example is 127.0.0.4"


def test_weights_are_summed_up(ask):
    sites = ["bl.example*2", "other.example=127.0.0.[2..3]*2", "wl.example*-1", "dead.example*9"]
    lists = {"client": ["reject_dnslists"]}
    outcome = ask(lists, sites=sites, threshold=3)
    assert code(outcome) == "554 5.7.1"
    assert "score 3 of 3: bl.example +2, other.example +2, wl.example -1" in outcome.reason
    assert code(ask(lists, sites=sites, threshold=4)) == "in"


def test_many_dead_lists_cost_one_time_limit(ask):
    words = [f"reject_rbl_client dead{number}.example" for number in range(20)]
    for number in range(20):
        ZONE[f"1.2.0.192.dead{number}.example"] = SILENT
    begun = time.monotonic()
    assert code(ask({"client": words})) == "in"
    assert time.monotonic() - begun < 20 * 0.4  # one after the other


def test_an_answer_is_remembered_for_its_ttl_and_no_answer_for_a_while(names):
    """The resolver remembers too, so that until when is all that can be seen of it."""
    sites = ("bl", "unlisted", "failing")

    async def go():
        lists = DnsLists([names.address], timeout_seconds=2, clock=FakeClock())
        found = await lists.ask([f"1.2.0.192.{site}.example" for site in sites])
        names.asked.clear()
        assert await lists.ask(found) == found
        await lists.close()
        return [(listing.answers, lists._remembered[name][0]) for name, listing in found.items()]

    assert asyncio.run(go()) == [(("127.0.0.4",), 60), ((), UNLISTED_SECONDS), ((), SILENT_SECONDS)]
    assert names.asked == []


def test_nothing_is_looked_up_that_no_restriction_reaches(ask, names):
    names.asked.clear()
    ask({"client": ["permit_mynetworks", "reject_rbl_client bl.example"], "recipient": ["permit"]}, is_trusted=True)
    assert names.asked == []


def test_a_table_may_say_another_restriction_and_one_that_leads_to_itself_ends(ask, tmp_path):
    (tmp_path / "senders").write_text(f"example.org check_sender_access {tmp_path}/more\n")
    (tmp_path / "more").write_text("example.org reject_rbl_client bl.example\n")
    assert code(ask({"sender": ["check_sender_access senders"]})) == "554 5.7.1"
    (tmp_path / "more").write_text("example.org check_sender_access senders\n")
    assert code(ask({"sender": ["check_sender_access senders"]})) == "451 4.3.5"


def test_submission_is_not_judged_by_where_it_comes_from(ask):
    lists = {"client": ["reject"], "helo": ["reject"], "recipient": ["permit"]}
    assert code(ask(lists, is_submission=True, login="alice@example.test")) == "in"
