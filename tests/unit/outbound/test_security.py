"""outbound/security.py, dane.py, mtasts.py: the SMTP courier against a zone and servers on loopback."""

import asyncio
import hashlib
import ssl
from ipaddress import ip_network

import dns.rcode
import pytest
import trustme
from tests.unit.outbound.test_couriers import BOB, EHLO, PATIENT, Server, codes, make_message
from tests.validatingserver import ValidatingServer

from posthouse.base.clock import FakeClock
from posthouse.base.errors import Refused
from posthouse.config.destinations import Destination
from posthouse.mailqueue.courier import Deferred, Delivered
from posthouse.outbound.mtasts import Policies
from posthouse.outbound.routing import OwnHost
from posthouse.outbound.security import Securing, opportunistic_tls
from posthouse.outbound.smtp import SmtpCourier
from posthouse.outbound.tlsresults import TlsResults, read_results
from posthouse.runtime.certificate import public_key_info
from posthouse.runtime.https import CertificateError, FetchError
from posthouse.runtime.validating import ValidatingResolver

WITH_TLS = b"250-mx.example\r\n250 STARTTLS\r\n"
SECURE = ("*",)
CA = trustme.CA()
OTHER_CA = trustme.CA()
CERTIFICATE = CA.issue_cert("mx.d.example")
STS = "version: STSv1\r\nmode: {mode}\r\nmx: mx.d.example\r\nmx: *.backup.example\r\nmax_age: 86400\r\n"


def der(pem):
    return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())


LEAF, ANCHOR = der(CERTIFICATE.cert_chain_pems[0]), der(CA.cert_pem)


def tls(certificate=CERTIFICATE, *, with_anchor=True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pems = [pem.bytes() for pem in certificate.cert_chain_pems]
    if with_anchor:
        pems.append(CA.cert_pem.bytes())
    with trustme.Blob(certificate.private_key_pem.bytes() + b"".join(pems)).tempfile() as path:
        context.load_cert_chain(path)
    return context


def trusting(ca=CA):
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def tlsa(usage, selector, matching, certificate):
    selected = certificate if selector == 0 else public_key_info(certificate)
    data = {0: lambda x: x, 1: lambda x: hashlib.sha256(x).digest(), 2: lambda x: hashlib.sha512(x).digest()}
    return f"TLSA {usage} {selector} {matching} {data[matching](selected).hex()}"


@pytest.fixture
def send(tmp_path):
    """Deliver to ``server`` as the zone says; ``{port}`` in its names is the server's."""

    def send(server, records=(), *, secure=SECURE, zone=None, policy=None, fetch=None, message=None, **options):
        async def go():
            async with server:
                names = {
                    "d.example": ["MX 10 mx.d.example."],
                    "mx.d.example": ["A 127.0.0.1"],
                    "mta-sts.d.example": ["A 192.0.2.80"],
                    **({f"_{server.port}._tcp.mx.d.example": list(records)} if records else {}),
                    **({"_mta-sts.d.example": ['TXT "v=STSv1; id=1;"']} if policy or fetch else {}),
                    **{name.format(port=server.port): found for name, found in (zone or {}).items()},
                }
                with ValidatingServer(names, secure) as names_server:
                    resolver = ValidatingResolver([("127.0.0.1", names_server.port)], timeout_seconds=2)
                    fetched = fetch or (lambda host, address: STS.format(mode=policy))
                    securing = Securing(
                        opportunistic_tls(),
                        validating=resolver,
                        policies=Policies(str(tmp_path / "sts"), resolver, FakeClock(), fetched),
                        verifying=trusting(),
                    )
                    smtp = SmtpCourier(
                        "us.example",
                        resolver,
                        port=server.port,
                        securing=securing,
                        timeouts=PATIENT,
                        results=TlsResults(str(tmp_path / "results"), FakeClock()),
                        destinations={"d.example": Destination(tls=options.pop("tls_set", ""))},
                        **options,
                    )
                    try:
                        return await smtp.deliver(message or make_message(tmp_path), [BOB], "d.example")
                    finally:
                        await smtp.close()

        return asyncio.run(go())

    return send


def counted(tmp_path):
    return [(one.domain, one.policy, one.result, count) for one, count in read_results(str(tmp_path / "results"))]


def tls_server(context=None, **script):
    return Server(context or tls(), **{"EHLO": [WITH_TLS, EHLO]} | script)


@pytest.mark.parametrize(
    "record",
    [
        tlsa(3, 1, 1, LEAF),
        tlsa(3, 0, 2, LEAF),
        tlsa(3, 1, 0, LEAF),
        tlsa(2, 0, 1, ANCHOR),
        tlsa(2, 1, 2, ANCHOR),
        tlsa(2, 0, 0, ANCHOR),
    ],
    ids=lambda record: record[:10],
)
def test_a_host_whose_certificate_is_what_its_records_say_gets_the_mail(send, record):
    """RFC 6698 §2.1; RFC 7672 §3.1"""
    server = tls_server()
    assert codes(send(server, [record])) == [(Delivered, 250)]
    assert "STARTTLS" in server.commands


def test_an_anchor_that_the_server_leaves_out_is_taken_from_the_record(send):
    assert codes(send(tls_server(tls(with_anchor=False)), [tlsa(2, 0, 0, ANCHOR)])) == [(Delivered, 250)]


@pytest.mark.parametrize(
    ("records", "context"),
    [
        ([tlsa(3, 1, 1, ANCHOR)], tls()),
        ([tlsa(2, 0, 1, der(OTHER_CA.cert_pem))], tls()),
        ([tlsa(2, 0, 1, ANCHOR)], tls(CA.issue_cert("elsewhere.example"))),
        ([tlsa(2, 0, 1, ANCHOR)], tls(OTHER_CA.issue_cert("mx.d.example"))),
        # The stronger digest counts, not the weaker one that matches: RFC 7671 §9.
        ([tlsa(3, 1, 1, LEAF), tlsa(3, 1, 2, ANCHOR)], tls()),
    ],
    ids=["key", "anchor", "name", "signed by another", "digest"],
)
def test_a_host_that_is_not_what_its_records_say_gets_nothing(send, records, context):
    """RFC 7672 §2.2: the mail waits, and never goes in clear."""
    server = tls_server(context)
    (outcome,) = send(server, records)
    assert (type(outcome), outcome.reply.status) == (Deferred, "4.7.5")
    assert server.bodies == []
    assert server.connections == 1


@pytest.mark.parametrize(
    "script",
    [
        {"EHLO": EHLO},
        {"EHLO": WITH_TLS, "STAR": b"454 not now\r\n"},
        {"EHLO": WITH_TLS, "STAR": b"220 go\r\nrubbish\r\n"},
    ],
    ids=["stripped", "refused", "broken"],
)
@pytest.mark.parametrize("protection", ["dane", "unusable", "mta-sts"])
def test_who_takes_tls_away_gets_nothing(send, script, protection):
    records = {"dane": [tlsa(3, 1, 1, LEAF)], "unusable": ["TLSA 0 0 1 " + "00" * 32], "mta-sts": ()}[protection]
    server = Server(**script)
    (outcome,) = send(server, records, policy="enforce" if protection == "mta-sts" else None)
    assert (type(outcome), outcome.reply.status) == (Deferred, "4.7.5")
    assert server.bodies == []


def test_records_that_cannot_be_used_still_ask_for_tls(send):
    """RFC 7672 §2.2: without authentication then."""
    server = tls_server(tls(OTHER_CA.issue_cert("whatever.example")))
    assert codes(send(server, ["TLSA 1 1 1 " + "00" * 32, "TLSA 3 1 9 00"])) == [(Delivered, 250)]
    assert "STARTTLS" in server.commands


@pytest.mark.parametrize("answer", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, None], ids=["SERVFAIL", "REFUSED", "none"])
def test_records_that_nobody_can_look_up_now_make_the_mail_wait(send, answer):
    """RFC 7672 §2.1.1: that is what an attacker would make of them."""
    server = tls_server()
    (outcome,) = send(server, zone={"_{port}._tcp.mx.d.example": answer})
    assert (type(outcome), server.bodies) == (Deferred, [])


@pytest.mark.parametrize("secure", [(), ("d.example",), ("mx.d.example",)])
def test_records_below_an_answer_that_is_not_secure_are_not_asked_for(send, secure):
    """RFC 7672 §2.2.1, §2.2.2"""
    server = tls_server(tls(OTHER_CA.issue_cert("x.example")))
    outcomes = send(server, secure=secure, zone={"_{port}._tcp.mx.d.example": dns.rcode.SERVFAIL})
    assert codes(outcomes) == [(Delivered, 250)]


def test_records_that_are_not_secure_themselves_count_for_nothing(send):
    server = Server()
    outcomes = send(server, [tlsa(3, 1, 1, ANCHOR)], secure=("d.example", "mx.d.example"))
    assert codes(outcomes) == [(Delivered, 250)]


def test_the_records_of_the_name_behind_an_alias_come_first(send):
    """RFC 7672 §2.2.2"""
    zone = {
        "mx.d.example": ["CNAME real.example.", "real.example!A 127.0.0.1"],
        "_{port}._tcp.real.example": [tlsa(3, 1, 1, LEAF)],
    }
    assert codes(send(tls_server(), [tlsa(3, 1, 1, ANCHOR)], zone=zone)) == [(Delivered, 250)]


def test_what_was_said_in_clear_before_tls_is_not_believed(send):
    """RFC 3207 §4.2: an attacker's answers, injected behind the 220."""

    class Injecting(Server):
        async def say(self, verb, writer):
            if verb == "STAR":
                self.said = b""
                writer.write(b"220 go\r\n250-evil\r\n250 SMTPUTF8\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n")
                return True
            return await super().say(verb, writer)

    server = Injecting(EHLO=WITH_TLS)
    (outcome,) = send(server, [tlsa(3, 1, 1, LEAF)])
    assert isinstance(outcome, Deferred)
    assert server.bodies == []


def test_a_policy_is_kept_to(send):
    """RFC 8461 §4.1"""
    assert codes(send(tls_server(), policy="enforce")) == [(Delivered, 250)]


@pytest.mark.parametrize(("mode", "kind"), [("enforce", Deferred), ("testing", Delivered), ("none", Delivered)])
@pytest.mark.parametrize("wrong", ["name", "authority", "host"])
def test_a_host_that_the_policy_does_not_accept(send, mode, kind, wrong):
    """RFC 8461 §5: ``enforce`` waits; ``testing`` only says what would have been."""
    certificate = {
        "name": CA.issue_cert("elsewhere.example"),
        "authority": OTHER_CA.issue_cert("mx.d.example"),
        "host": CA.issue_cert("mx.d.example"),
    }[wrong]
    policy = STS.format(mode=mode).replace(
        "mx: mx.d.example", "mx: other.example" if wrong == "host" else "mx: mx.d.example"
    )
    server = Server(tls(certificate), EHLO=[WITH_TLS, WITH_TLS, EHLO] if mode == "testing" else [WITH_TLS, EHLO])
    (outcome,) = send(server, fetch=lambda host, address: policy)
    assert isinstance(outcome, kind)
    assert bool(server.bodies) == (kind is Delivered)


def test_dane_comes_before_a_policy(send):
    """RFC 8461 §2: a certificate that no authority has signed is right, if the DNS says so."""
    certificate = OTHER_CA.issue_cert("whatever.example")
    records = [tlsa(3, 1, 1, der(certificate.cert_chain_pems[0]))]
    assert codes(send(tls_server(tls(certificate)), records, policy="enforce")) == [(Delivered, 250)]


def test_what_becomes_of_tls_is_counted(send, tmp_path):
    """RFC 8460 §4.3"""
    send(tls_server(), [tlsa(3, 1, 1, LEAF)])
    send(tls_server(), [tlsa(3, 1, 1, LEAF)])
    send(tls_server(), [tlsa(3, 1, 1, ANCHOR)])
    send(Server())
    send(tls_server(tls(CA.issue_cert("elsewhere.example"))), policy="enforce")
    assert counted(tmp_path) == [
        ("d.example", "no-policy-found", "starttls-not-supported", 1),
        ("d.example", "sts", "certificate-host-mismatch", 1),
        ("d.example", "tlsa", "successful", 2),
        ("d.example", "tlsa", "validation-failure", 1),
    ]


def test_a_policy_that_is_kept_holds_when_it_cannot_be_had_any_more(send):
    """RFC 8461 §3.3, §5.1: who suppresses look-ups gets nothing by that."""
    assert codes(send(tls_server(), policy="enforce")) == [(Delivered, 250)]

    def gone(host, address):
        raise FetchError("no")

    assert codes(send(Server())) == [(Deferred, 451)]
    server = Server()
    zone = {"_mta-sts.d.example": ['TXT "v=STSv1; id=2;"']}
    assert codes(send(server, fetch=gone, zone=zone)) == [(Deferred, 451)]


def test_a_new_id_brings_the_new_policy(send):
    assert codes(send(tls_server(), policy="enforce")) == [(Delivered, 250)]
    zone = {"_mta-sts.d.example": ['TXT "v=STSv1; id=2;"']}
    assert codes(send(Server(), policy="none", zone=zone)) == [(Delivered, 250)]


@pytest.mark.parametrize(
    "text",
    ["", "version: STSv1\nmode: enforce\nmx: a.example\n", "version: STSv1\nmode: enforce\nmax_age: 5\n", "\0" * 9],
)
def test_a_policy_that_is_none_is_as_if_there_were_none(send, text):
    assert codes(send(Server(), fetch=lambda host, address: text)) == [(Delivered, 250)]


def test_a_policy_from_who_cannot_show_who_it_is_counts_for_nothing(send):
    def forged(host, address):
        raise CertificateError("self-signed")

    assert codes(send(Server(), fetch=forged)) == [(Delivered, 250)]


@pytest.mark.parametrize("host", ["a\\032b", "-a.example", "x\\000y", "a\\.b", "*"])
def test_an_mx_that_is_no_host_is_nobody(send, host):
    with pytest.raises(Refused):
        send(Server(), zone={"d.example": [f"MX 1 {host}."]})


def test_an_mx_that_leads_to_this_machine_is_passed_over(send):
    """Or anybody could have us deliver into whatever listens here."""
    own = OwnHost(bogus=(ip_network("127.0.0.0/8"),))
    server = Server()
    with pytest.raises(Refused):
        send(server, own=own)
    zone = {"d.example": ["MX 1 us.d.example.", "MX 2 mx.d.example."], "us.d.example": ["A 127.0.0.2"]}
    own = OwnHost(bogus=(ip_network("127.0.0.2/32"),))
    assert codes(send(server, zone=zone, own=own)) == [(Delivered, 250)]
