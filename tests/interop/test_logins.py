"""Other people's clients log in, by every mechanism that they know."""

import asyncio
import hashlib
import imaplib
import poplib
import smtplib
import socket
import sqlite3
import ssl
from contextlib import closing

import pytest
import trustme
from tests.interop.house import House, run, trusting

from posthouse.config.settings import Auth
from posthouse.directory.model import StoredCredentials
from posthouse.protocols.sasl import client as sasl
from posthouse.protocols.sasl.md5 import cram_md5_context
from posthouse.protocols.smtp.server import ServerOptions
from posthouse.runtime.server import Server
from posthouse.servers.smtp import SmtpService
from posthouse.services.login import Login

ALICE = "alice@example.test"
DOVECOT = "dovecot@example.test"  # her password is stored as Dovecot's {CRAM-MD5}
MECHANISMS = [
    "EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "CRAM-SHA1", "CRAM-MD5",
    "PLAIN", "LOGIN", "APOP",
]  # fmt: skip
SERVICES = {"imap": "imap", "imaps": "imaps", "pop3": "pop3", "pop3s": "pop3s", "smtp": "submission"}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def place(tmp_path_factory, authority):
    """The certificates: the server's, alice's and a stranger's."""
    place = tmp_path_factory.mktemp("logins")
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    issued = {
        "server": authority.issue_cert("localhost"),
        "alice": authority.issue_cert(ALICE),
        "stranger": authority.issue_cert("stranger@example.test"),
        "foreigner": trustme.CA().issue_cert("mx.example.org"),
    }
    for name, certificate in issued.items():
        certificate.cert_chain_pems[0].write_to_path(str(place / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(place / f"{name}.key"))
    return place


@pytest.fixture(scope="module")
def house(place):
    tls = f'[tls]\ncertificate = "{place}/server.pem"\nkey = "{place}/server.key"\nclient_ca = "{place}/ca.pem"\n'
    running = House(place, f"{tls}[auth]\nmechanisms = {MECHANISMS}\n", workers=1)
    running.cli("domain", "add", "example.test")
    for address, clear in ((ALICE, "secret"), (DOVECOT, "{CRAM-MD5}" + cram_md5_context(b"secret").hex())):
        running.add_account(address)
        with closing(sqlite3.connect(running.data / "posthouse.db", timeout=30)) as database, database:
            database.execute("UPDATE users SET clear = ? WHERE email = ?", (clear, address))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def curl(need, house, place):
    program = need("curl")

    def login(scheme: str, *options: object, code: int = 0) -> str:
        url = f"{scheme}://localhost:{house.ports[SERVICES[scheme]]}"
        if scheme == "smtp":
            options = ("--mail-from", ALICE, "--mail-rcpt", ALICE, "-X", "NOOP", *options)
        return run(program, "-q", "-sS", "-v", "--cacert", place / "ca.pem", url, *options, code=code)

    return login


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "PLAIN", "LOGIN"])
@pytest.mark.parametrize("scheme", ["imap", "imaps", "pop3", "pop3s", "smtp"])
def test_curl_logs_in(curl, scheme, mechanism):
    options = ["--login-options", f"AUTH={mechanism}"]
    assert mechanism in curl(scheme, *options, "-u", f"{ALICE}:secret")
    curl(scheme, *options, "-u", f"{ALICE}:guess", code=67)


def test_curl_logs_in_by_apop(curl):
    for scheme in ("pop3", "pop3s"):
        assert "> APOP " in curl(scheme, "--login-options", "AUTH=+APOP", "-u", f"{ALICE}:secret")
    curl("pop3", "--login-options", "AUTH=+APOP", "-u", f"{ALICE}:guess", code=67)


@pytest.mark.parametrize("scheme", ["imaps", "pop3s", "imap", "smtp"])
def test_curl_logs_in_by_its_certificate(curl, place, scheme):
    def options(name: str) -> list[object]:
        certificate = ["--cert", place / f"{name}.pem", "--key", place / f"{name}.key"]
        return ["--ssl-reqd", "--login-options", "AUTH=EXTERNAL", "-u", f"{ALICE}:", *certificate]

    assert "EXTERNAL" in curl(scheme, *options("alice"))
    curl(scheme, *options("stranger"), code=67)


def test_other_mail_servers_may_have_certificates_of_others(need, house, place):
    """They present them to whoever asks, so that on port 25 nobody does."""
    certificate = ["--cert", place / "foreigner.pem", "--key", place / "foreigner.key", "--cacert", place / "ca.pem"]
    line = [
        need("curl"),
        "-q",
        "-sS",
        "--ssl-reqd",
        "--mail-from",
        ALICE,
        "--mail-rcpt",
        ALICE,
        "-X",
        "NOOP",
        *certificate,
    ]
    run(*line, f"smtp://localhost:{house.ports['smtp']}")
    assert "curl: (" in run(*line, f"smtp://localhost:{house.ports['submission']}", code=None)


def test_external_is_not_offered_without_a_certificate(house):
    with imaplib.IMAP4_SSL("localhost", house.ports["imaps"], ssl_context=trusting(), timeout=30) as session:
        assert "AUTH=EXTERNAL" not in session.capabilities
        assert "AUTH=SCRAM-SHA-256-PLUS" in session.capabilities


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "CRAM-SHA1", "PLAIN", "LOGIN"])
def test_swaks_logs_in(need, house, mechanism):
    line = [need("swaks"), "--server", f"127.0.0.1:{house.ports['submission']}", "--auth", mechanism, "-au", ALICE]
    line += ["--quit-after", "AUTH"]
    assert " 235 2.7.0 " in run(*line, "-ap", "secret")
    assert " 535 5.7.8 " in run(*line, "-ap", "guess", code=28)


def test_context_that_dovecot_stored_serves_cram_md5(curl):
    options = ["--login-options", "AUTH=CRAM-MD5"]
    curl("imap", *options, "-u", f"{DOVECOT}:secret")
    curl("imap", *options, "-u", f"{DOVECOT}:guess", code=67)


@pytest.mark.parametrize(
    ("mechanism", "options"),
    [
        ("SCRAM-SHA-1", ["--no-cb"]),
        ("SCRAM-SHA-256", ["--no-cb"]),
        ("SCRAM-SHA-256", ["--no-starttls"]),
        ("SCRAM-SHA-1-PLUS", ["--priority", "NORMAL:-VERS-TLS1.3"]),
        ("SCRAM-SHA-256-PLUS", ["--priority", "NORMAL:-VERS-TLS1.3"]),
        ("CRAM-MD5", []),
    ],
)
@pytest.mark.parametrize("protocol", ["imap", "smtp"])
def test_gsasl_logs_in(need, house, place, protocol, mechanism, options):
    """With -PLUS it binds to the very connection (tls-unique), which only TLS 1.2 has."""
    program = need("gsasl")
    port = house.ports[SERVICES[protocol]]
    line = [program, f"--{protocol}", f"--connect=localhost:{port}", f"--mechanism={mechanism}", *options]
    line += [
        f"--x509-ca-file={place}/ca.pem",
        f"--authentication-id={ALICE}",
        "--authorization-id=",
    ]
    out = run(*line, "--password=secret", code=None)
    assert "Client authentication finished (server trusted)" in out, out
    assert "server trusted" not in run(*line, "--password=guess", code=None)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"])
def test_client_binds_to_the_certificate_that_it_sees(house, place, mechanism):
    """RFC 5929 §4; with another's certificate between them, as a man in the middle has it, there is no login."""
    context = ssl.create_default_context(cafile=str(place / "ca.pem"))
    for certificate, is_right in (("server", True), ("stranger", False)):
        der = ssl.PEM_cert_to_DER_cert((place / f"{certificate}.pem").read_text())
        binding = ("tls-server-end-point", hashlib.sha256(der).digest())
        ours = sasl.mechanism(mechanism, ALICE, "secret", nonce=b"n" * 18, binding=binding)

        def respond(challenge, ours=ours):
            return ours.respond(challenge) if challenge else ours.initial()

        with imaplib.IMAP4_SSL("localhost", house.ports["imaps"], ssl_context=context, timeout=30) as session:
            if is_right:
                assert session.authenticate(mechanism, respond)[0] == "OK"
            else:
                with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                    session.authenticate(mechanism, respond)


def test_pythons_clients_log_in(house):
    with smtplib.SMTP("localhost", house.ports["submission"], timeout=30) as smtp:
        assert smtp.login(ALICE, "secret")[0] == 235
    with imaplib.IMAP4("localhost", house.ports["imap"], timeout=30) as imap:
        assert imap.login_cram_md5(ALICE, "secret")[0] == "OK"
    pop3 = poplib.POP3("localhost", house.ports["pop3"], timeout=30)
    assert pop3.apop(ALICE, "secret").startswith(b"+OK")
    pop3.quit()


class Directory:
    """alice, and her token."""

    tokens = (ALICE, "t0ken"), (ALICE, "x" * 16_000)

    async def credentials(self, email: str) -> StoredCredentials | None:
        return StoredCredentials(ALICE, "", "", "", True) if email == ALICE else None

    async def check(self, token: str, login: str) -> str | None:
        return login if (login, token) in self.tokens else None

    async def close(self) -> None:
        pass


class Reception:
    """Nobody relays."""

    def is_trusted(self, peer: str) -> bool:
        return False


@pytest.fixture
def with_tokens():
    """``with_tokens(talk)`` runs ``talk(port)`` beside a submission server of ours that takes tokens."""

    async def main(talk):
        directory, server, sock = Directory(), Server(), socket.create_server(("127.0.0.1", 0))
        settings = Auth(mechanisms=("OAUTHBEARER", "XOAUTH2"))
        login = Login(directory, settings, hostname="h", secret=b"k" * 32, tokens=directory, failure_seconds=0.0)
        options = ServerOptions("mail.example.test", require_auth=True)
        await server.listen(sock, SmtpService(options, Reception(), login, None, 30.0, is_submission=True).serve)
        try:
            return await asyncio.to_thread(talk, sock.getsockname()[1])
        finally:
            await server.drain(5.0)
            await login.close()

    return lambda talk: asyncio.run(main(talk))


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_curl_logs_in_by_a_token(need, with_tokens, mechanism):
    """RFC 7628 §4.1 to §4.3: a token that isn't good is answered by an error, that by a dummy, that by 535."""
    program = need("curl")

    def talk(port: int) -> None:
        line = [program, "-q", "-sS", "-v", f"smtp://127.0.0.1:{port}", "--login-options", f"AUTH={mechanism}"]
        line += ["--mail-from", ALICE, "--mail-rcpt", ALICE, "-X", "NOOP", "-u", ALICE]
        for _, token in Directory.tokens:
            assert "< 235 2.7.0 " in run(*line, "--oauth2-bearer", token)
        out = run(*line, "--oauth2-bearer", "other", code=67)
        assert "< 334 eyJzdGF0dXMi" in out
        assert "< 535 5.7.8 " in out

    with_tokens(talk)
