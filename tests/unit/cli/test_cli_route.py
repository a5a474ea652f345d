"""cli/route.py, with a name server of the test's own."""

import asyncio
import json

import dns.rcode
import pytest
from tests.running import RunningServer
from tests.validatingserver import ValidatingServer

from posthouse.base.clock import FakeClock
from posthouse.outbound.tlsresults import TlsResults

KEY = "ab" * 32
ZONE = {
    "d.example": ["MX 20 b.d.example.", "MX 10 a.d.example."],
    "a.d.example": ["A 192.0.2.1"],
    "b.d.example": ["A 192.0.2.2"],
    "_25._tcp.a.d.example": [f"TLSA 3 1 1 {KEY}"],
    "_25._tcp.b.d.example": dns.rcode.SERVFAIL,
    "null.example": ["MX 0 ."],
    "inside.example": ["MX 0 l.example."],
    "l.example": ["A 127.0.0.1"],
    "loop.example": ["MX 0 mail.example.test.", "MX 5 a.d.example."],
}


@pytest.fixture(scope="module")
def route(tmp_path_factory):
    """``posthouse route``, its exit code and the one route that is told."""
    with ValidatingServer(ZONE, ("*",)) as names:
        server = RunningServer(tmp_path_factory.mktemp("route"), f'[dns]\nservers = ["{names.address}"]\n')
        server.cli("domain", "add", "example.test")

        def route(address):
            done = server.cli("route", address, "--json", check=False)
            (told,) = json.loads(done.stdout)["routes"]
            return done.returncode, told

        route.text = lambda address: server.cli("route", address).stdout
        yield route


def test_how_tls_went_is_told(tmp_path):
    server = RunningServer(tmp_path)
    assert server.cli("tls-results", "--json").stdout == "[]\n"
    server.data.mkdir(exist_ok=True)

    async def count():
        results = TlsResults(str(server.data / "tls-results.db"), FakeClock())
        results.count("d.example", "sts", "a.d.example", "successful")
        await results.close()

    asyncio.run(count())
    assert "2026-01-01  d.example  sts     a.d.example  successful  1" in server.cli("tls-results").stdout


def test_hosts_are_told_in_order_with_what_protects_them(route):
    code, told = route("x@d.example")
    assert code == 0
    assert [(way["preference"], way["host"], way["security"]) for way in told["ways"]] == [
        (10, "a.d.example", "dane"),
        (20, "b.d.example", "none"),
    ]
    assert told["ways"][0]["why"] == "1 TLSA record(s) at a.d.example"
    assert "SERVFAIL" in told["ways"][1]["why"]
    assert "   10  a.d.example [192.0.2.1]:25, DNS validated\n" in route.text("x@d.example")


@pytest.mark.parametrize(
    ("domain", "reply"),
    [
        ("null.example", "556 5.1.10"),
        ("inside.example", "550 5.4.4"),
        ("loop.example", "554 5.4.6"),
        ("nowhere.example", "550 5.1.2"),
    ],
)
def test_why_there_is_no_way_is_told(route, domain, reply):
    code, told = route(f"x@{domain}")
    assert (code, told["ways"]) == (1, [])
    assert told["trouble"].startswith(f"{reply} ")


def test_whose_mail_it_is_decides_where_a_sender_has_a_relayhost(tmp_path):
    configuration = (
        "[dns]\nservers = ['127.0.0.1:1']\n[relays.isp]\nhost = '[192.0.2.7]:587'\nsenders = ['@example.test']\n"
    )
    server = RunningServer(tmp_path, configuration)
    server.cli("domain", "add", "example.test")
    text = server.cli("route", "x@d.example", "--from", "alice@example.test").stdout
    assert "x@d.example by relays.isp of @[192.0.2.7]:587" in text
    assert "192.0.2.7 [192.0.2.7]:587" in text
    done = server.cli("route", "x@d.example", "--from", "alice@elsewhere.test", "--json", check=False)
    assert json.loads(done.stdout)["routes"][0]["destination"] == "d.example"
