"""outbound/relay.py: logging in at the relayhost."""

import asyncio
import ssl
from base64 import b64encode
from dataclasses import replace

import pytest
import trustme
from tests.unit.outbound.test_couriers import BOB, EHLO, PATIENT, Loopback, Server, codes, make_message

from posthouse.base.errors import TryLater
from posthouse.config.relays import RelayHost
from posthouse.config.settings import Settings
from posthouse.mailqueue.courier import Deferred, Delivered, Failed
from posthouse.outbound import relay as relay_module
from posthouse.outbound.outgoing import make_relays
from posthouse.outbound.relay import Relay
from posthouse.outbound.security import opportunistic_tls
from posthouse.outbound.smtp import SmtpCourier
from posthouse.runtime.resolver import Answers

PLAIN = b64encode(b"\0us\0secret").decode()
WITH_AUTH = b"250-mx.example\r\n250 AUTH PLAIN LOGIN\r\n"
CA = trustme.CA()


class Providers(Loopback):
    """All hosts are on loopback."""

    def __init__(self, hosts, *, is_secure):
        super().__init__(*hosts)
        self.is_secure = is_secure

    async def mx(self, domain):
        return Answers(await super().mx(domain), is_secure=self.is_secure)

    async def addresses(self, host):
        return ["127.0.0.1"]


def send(tmp_path, server, *, host="[127.0.0.1]", hosts=(), is_secure=False, message=None, **options):
    async def go():
        async with server:
            destination = f"{host}:{server.port}"
            client = ssl.create_default_context()
            CA.configure_trust(client)
            relays = {destination: Relay(destination, "us", "secret", client)}
            resolver = Providers(hosts, is_secure=is_secure)
            smtp = SmtpCourier(
                "us.example", resolver, relays=relays, tls=opportunistic_tls(), timeouts=PATIENT, **options
            )
            try:
                return await smtp.deliver(message or make_message(tmp_path), [BOB], destination)
            finally:
                await smtp.close()

    return asyncio.run(go())


@pytest.fixture
def far(monkeypatch):
    """A relayhost that is not on this machine, though it is."""
    monkeypatch.setattr(relay_module, "_is_loopback", lambda address: False)


def test_the_login_goes_before_the_mail(tmp_path):
    server = Server(EHLO=WITH_AUTH, AUTH=b"235 welcome\r\n")
    assert codes(send(tmp_path, server)) == [(Delivered, 250)]
    assert server.commands[1] == f"AUTH PLAIN {PLAIN}"


@pytest.mark.parametrize(
    "script",
    [
        {"EHLO": WITH_AUTH, "AUTH": b"535 5.7.8 no\r\n"},
        {"EHLO": WITH_AUTH, "AUTH": b"334 cmVhbGx5Pw==\r\n"},
        {"EHLO": b"250-mx\r\n250 AUTH GSSAPI\r\n"},
        {"EHLO": EHLO},
        {"EHLO": b"250-mx\r\n250 AUTH SCRAM-SHA-256\r\n", "AUTH": b"235 come in\r\n"},
    ],
    ids=["refused", "endless", "other mechanisms", "none", "proves nothing"],
)
def test_a_login_that_does_not_work_is_our_trouble(tmp_path, script):
    server = Server(**script)
    server.script["*"] = b"501 cancelled\r\n"
    ((kind, _),) = codes(send(tmp_path, server))
    assert (kind, server.bodies) == (Deferred, [])


@pytest.mark.parametrize("ehlo", [WITH_AUTH, b"250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"], ids=["no", "wrong"])
def test_a_password_goes_to_nobody_but_through_tls_with_whom_it_is_for(tmp_path, far, ehlo):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("somebody.example").configure_cert(context)
    server = Server(context, EHLO=ehlo, AUTH=b"235 thanks\r\n")
    ((kind, _),) = codes(send(tmp_path, server))
    assert kind is Deferred
    assert not any(PLAIN in command or command.startswith("AUTH") for command in server.commands)


def test_a_relayhost_with_a_certificate_for_its_name_gets_the_login(tmp_path, far):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(context, EHLO=[b"250-mx\r\n250 STARTTLS\r\n", WITH_AUTH], AUTH=b"235 welcome\r\n")
    assert codes(send(tmp_path, server)) == [(Delivered, 250)]


def provider(name, *, promises=False):
    """A relayhost with a certificate for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(name).configure_cert(context)
    offers = WITH_AUTH.replace(b"250 AUTH", b"250-REQUIRETLS\r\n250 AUTH") if promises else WITH_AUTH
    return Server(context, EHLO=[b"250-mx\r\n250 STARTTLS\r\n", offers], AUTH=b"235 welcome\r\n")


@pytest.mark.parametrize(
    ("host", "certificate", "is_secure", "kind"),
    [
        ("mx.provider.example", "mx.provider.example", False, Delivered),
        ("mx.other.example", "provider.example", False, Delivered),
        ("mx.other.example", "mx.other.example", True, Delivered),
        ("mx.other.example", "mx.other.example", False, Deferred),
        ("evilprovider.example", "evilprovider.example", False, Deferred),
    ],
)
def test_a_password_goes_to_no_host_that_an_mx_record_of_anybody_names(
    tmp_path, far, host, certificate, is_secure, kind
):
    """A certificate for its own name is what the host of a forged answer has too."""
    server = provider(certificate)
    (outcome,) = send(tmp_path, server, host="provider.example", hosts=[host], is_secure=is_secure)
    assert isinstance(outcome, kind)
    assert any(command.startswith("AUTH") for command in server.commands) == (kind is Delivered)


@pytest.mark.parametrize(
    ("host", "hosts", "is_secure", "promises", "expected"),
    [
        ("[relay.example]", ["relay.example"], False, True, (Delivered, "2.0.0")),
        ("relay.example", ["relay.example"], False, True, (Delivered, "2.0.0")),
        ("provider.example", ["relay.example"], True, True, (Delivered, "2.0.0")),
        ("[relay.example]", ["relay.example"], False, False, (Failed, "5.7.30")),
        ("example", ["relay.example"], False, True, (Failed, "5.7.10")),
        ("[other.example]", ["other.example"], False, True, (Failed, "5.7.10")),
    ],
    ids=["set", "its own host", "DNSSEC", "no promise", "nobody vouches", "certificate"],
)
def test_mail_that_requires_tls_goes_through_a_login_where_its_host_is_sure(
    tmp_path, far, host, hosts, is_secure, promises, expected
):
    """RFC 8689 §4.2.1"""
    server = provider("relay.example", promises=promises)
    required = make_message(tmp_path, tls="REQUIRED")
    (outcome,) = send(tmp_path, server, host=host, hosts=hosts, is_secure=is_secure, message=required)
    assert (type(outcome), outcome.reply.status) == expected
    assert bool(server.bodies) == (expected[0] is Delivered)
    if server.bodies:
        assert server.commands[-4].endswith(" REQUIRETLS")


def test_connections_come_from_the_source_address(tmp_path):
    async def go():
        async with Server() as server:
            smtp = SmtpCourier(
                "us.example", Loopback("127.0.0.1"), port=server.port, source_addresses=["127.0.0.3", "::1"],
                timeouts=replace(PATIENT, quit=1),
            )  # fmt: skip
            outcomes = await smtp.deliver(make_message(tmp_path), [BOB], "d.example")
            peer = server.writers[0].get_extra_info("peername")[0]
            await smtp.close()
            return codes(outcomes), peer

    assert asyncio.run(go()) == ([(Delivered, 250)], "127.0.0.3")


def test_connections_come_from_each_of_several_source_addresses(tmp_path):
    async def go():
        async with Server() as server:
            smtp = SmtpCourier(
                "us.example", Loopback("127.0.0.1"), port=server.port, source_addresses=["127.0.0.3", "127.0.0.4"],
                timeouts=replace(PATIENT, quit=1),
            )  # fmt: skip
            for number in range(30):
                await smtp.deliver(make_message(tmp_path), [BOB], f"d{number}.example")
            peers = {writer.get_extra_info("peername")[0] for writer in server.writers}
            await smtp.close()
            return peers

    assert asyncio.run(go()) == {"127.0.0.3", "127.0.0.4"}


def test_each_of_two_logins_at_one_host_has_its_own_session(tmp_path):
    for name in ("anna", "bert"):
        (tmp_path / name).write_text(f"{name}s secret\n")

    async def go():
        async with Server(EHLO=WITH_AUTH, AUTH=b"235 welcome\r\n") as server:
            host = f"[127.0.0.1]:{server.port}"
            settings = Settings(
                data_dir=str(tmp_path),
                relays={name: RelayHost(host, (f"{name}@a.test",), name, name) for name in ("anna", "bert")},
            )
            relays = make_relays(settings)
            assert sorted(relays) == [f"anna@{host}", f"bert@{host}"]
            smtp = SmtpCourier("us.example", Loopback(), relays=relays, timeouts=PATIENT)
            try:
                for name in ("anna", "bert", "anna"):
                    outcomes = await smtp.deliver(make_message(tmp_path), [BOB], f"{name}@{host}")
                    assert codes(outcomes) == [(Delivered, 250)]
            finally:
                await smtp.close()
        return [command for command in server.commands if command.startswith("AUTH")]

    said = [b64encode(f"\0{name}\0{name}s secret".encode()).decode() for name in ("anna", "bert")]
    assert asyncio.run(go()) == [f"AUTH PLAIN {each}" for each in said]


def test_a_relays_password_that_cannot_be_read_is_named(tmp_path):
    relays = {"isp": RelayHost("isp.example", ("@a.test",), "us", "nowhere")}
    with pytest.raises(TryLater) as caught:
        make_relays(Settings(data_dir=str(tmp_path), relays=relays))
    assert "relays.isp.password_file" in caught.value.reason
