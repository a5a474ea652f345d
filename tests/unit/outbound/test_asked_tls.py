"""What a message (RFC 8689) or the operator asks of TLS with a destination, beyond what its domain publishes."""

import pytest
import trustme
from tests.unit.outbound.test_couriers import EHLO, Server, codes, make_message
from tests.unit.outbound.test_security import ANCHOR, CA, LEAF, WITH_TLS, send, tls, tls_server, tlsa  # noqa: F401

from posthouse.mailqueue.courier import Deferred, Delivered, Failed

PROMISES = EHLO.replace(b"250 DSN", b"250-DSN\r\n250 REQUIRETLS")
STRANGER = trustme.CA().issue_cert("mx.d.example")


@pytest.fixture
def required(tmp_path):
    return make_message(tmp_path, tls="REQUIRED")


def outcome_of(outcomes):
    (outcome,) = outcomes
    return type(outcome), outcome.reply.status


@pytest.mark.parametrize("vouched", ["DANE", "MTA-STS", "DNSSEC and an authority"])
def test_a_message_that_requires_tls_goes_where_it_is_promised(send, required, vouched):  # noqa: F811
    """RFC 8689 §4.2.1: and it says so itself."""
    server = tls_server(EHLO=[WITH_TLS, PROMISES])
    options = {
        "DANE": {"records": [tlsa(3, 1, 1, LEAF)]},
        "MTA-STS": {"policy": "enforce", "secure": ()},
        "DNSSEC and an authority": {},
    }[vouched]
    assert codes(send(server, message=required, **options)) == [(Delivered, 250)]
    assert any(command.startswith("MAIL") and command.endswith(" REQUIRETLS") for command in server.commands)


@pytest.mark.parametrize(
    ("server", "options", "expected"),
    [
        (lambda: tls_server(EHLO=[WITH_TLS, EHLO]), {}, (Failed, "5.7.30")),
        (lambda: tls_server(EHLO=[WITH_TLS, PROMISES]), {"secure": ()}, (Failed, "5.7.10")),
        (lambda: tls_server(tls(STRANGER), EHLO=[WITH_TLS, PROMISES]), {}, (Failed, "5.7.10")),
        (lambda: Server(EHLO=PROMISES), {}, (Failed, "5.7.10")),
        (lambda: Server(EHLO=WITH_TLS, STAR=b"454 4.7.0 not now\r\n"), {}, (Deferred, "4.7.5")),
        (lambda: tls_server(EHLO=[WITH_TLS, PROMISES]), {"tls_set": "none", "secure": ()}, (Failed, "5.7.10")),
    ],
    ids=["no promise", "nobody vouches", "certificate", "no TLS", "TLS later", "operator's setting"],
)
def test_a_message_that_requires_tls_goes_nowhere_else(send, required, server, options, expected):  # noqa: F811
    """RFC 8689 §4.2.1: it is returned, and never sent."""
    server = server()
    assert outcome_of(send(server, message=required, **options)) == expected
    assert server.bodies == []


@pytest.mark.parametrize("records", [(), [tlsa(3, 1, 1, ANCHOR)]], ids=["MTA-STS", "DANE"])
def test_a_message_that_would_rather_arrive_is_held_up_by_no_policy(send, tmp_path, records):  # noqa: F811
    """RFC 8689 §4.2.2"""
    server = Server()
    message = make_message(tmp_path, tls="OPTIONAL")
    assert codes(send(server, records, policy=None if records else "enforce", message=message)) == [(Delivered, 250)]
    assert not any("REQUIRETLS" in command for command in server.commands)


ELSEWHERE = CA.issue_cert("elsewhere.example")


@pytest.mark.parametrize(
    ("level", "server", "options", "kind"),
    [
        ("none", lambda: Server(EHLO=WITH_TLS), {"policy": "enforce"}, Delivered),
        ("may", lambda: Server(), {"records": [tlsa(3, 1, 1, LEAF)]}, Delivered),
        ("encrypt", lambda: tls_server(tls(STRANGER)), {}, Delivered),
        ("encrypt", lambda: Server(), {}, Deferred),
        ("verify", lambda: tls_server(), {"secure": ()}, Delivered),
        ("verify", lambda: tls_server(tls(ELSEWHERE)), {}, Deferred),
        ("verify", lambda: Server(), {}, Deferred),
        ("dane", lambda: tls_server(), {"records": [tlsa(3, 1, 1, LEAF)]}, Delivered),
        ("dane", lambda: tls_server(), {}, Deferred),
    ],
)
def test_what_is_set_for_a_destination_is_kept_to(send, level, server, options, kind):  # noqa: F811
    server = server()
    (outcome,) = send(server, tls_set=level, **options)
    assert isinstance(outcome, kind)
    assert bool(server.bodies) == (kind is Delivered)
    assert level != "none" or "STARTTLS" not in server.commands
