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
from posthouse.mailqueue.courier import Deferred, Delivered
from posthouse.outbound import relay as relay_module
from posthouse.outbound.outgoing import make_relays
from posthouse.outbound.relay import Relay
from posthouse.outbound.security import opportunistic_tls
from posthouse.outbound.smtp import SmtpCourier

PLAIN = b64encode(b"\0us\0secret").decode()
WITH_AUTH = b"250-mx.example\r\n250 AUTH PLAIN LOGIN\r\n"
CA = trustme.CA()


def send(tmp_path, server, **options):
    async def go():
        async with server:
            destination = f"[127.0.0.1]:{server.port}"
            client = ssl.create_default_context()
            CA.configure_trust(client)
            relays = {destination: Relay(destination, "us", "secret", client)}
            smtp = SmtpCourier(
                "us.example", Loopback(), relays=relays, tls=opportunistic_tls(), timeouts=PATIENT, **options
            )
            try:
                return await smtp.deliver(make_message(tmp_path), [BOB], destination)
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
