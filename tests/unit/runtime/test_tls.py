"""TLS as logging in sees it: channel bindings and clients' certificates, over real connections."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from posthouse.runtime.certificate import end_point
from posthouse.runtime.connection import Connection
from posthouse.runtime.server import Server
from posthouse.runtime.tls import server_context
from posthouse.servers.peer import peer

DAY = datetime(2026, 11, 22, tzinfo=UTC)
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> tuple[str, str, str]:
    """A server's certificate, its key, and those who sign clients'."""
    certificate, key, ca = (str(tmp_path / name) for name in ("certificate.pem", "key.pem", "ca.pem"))
    issued = authority.issue_cert("localhost")
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(certificate, append=index > 0)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    return certificate, key, ca


def seen(context: ssl.SSLContext, connect: Callable[[int], object]) -> tuple[Connection, object]:
    """What the server sees of the client that ``connect`` makes, and what that returns."""
    connections: list[Connection] = []

    async def session(connection: Connection) -> None:
        connections.append(connection)
        connection.write(repr(peer(connection, "imap").channel_bindings).encode() + b"\n")
        while await connection.read():
            pass

    async def main() -> object:
        server = Server()
        sock = socket.create_server(("127.0.0.1", 0))
        await server.listen(sock, session, context)
        try:
            return await asyncio.to_thread(connect, sock.getsockname()[1])
        finally:
            await server.drain(5.0)

    answer = asyncio.run(main())
    return connections[0], answer


def client(authority: trustme.CA, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    return context


def handshake(context: ssl.SSLContext, port: int) -> tuple[bytes | None, bytes]:
    """The client's own tls-unique, and the first line from the server."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        return tls.get_channel_binding("tls-unique"), tls.makefile("rb").readline()


def test_connection_knows_the_bindings_that_its_client_knows(files: tuple[str, str, str], authority: trustme.CA):
    """RFC 5929 §3 and §4; TLS 1.3 has no tls-unique."""
    certificate, key, _ = files
    der = ssl.PEM_cert_to_DER_cert(
        Path(certificate).read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    expected = {"tls-server-end-point": hashlib.sha256(der).digest()}
    context = server_context(certificate, key)
    _, answer = seen(context, lambda port: handshake(client(authority), port))
    assert isinstance(answer, tuple)
    assert answer[1].decode().strip() == repr(expected)
    _, answer = seen(context, lambda port: handshake(client(authority, ssl.TLSVersion.TLSv1_2), port))
    assert isinstance(answer, tuple)
    assert answer[1].decode().strip() == repr(expected | {"tls-unique": answer[0]})


def test_clients_are_known_by_the_addresses_in_their_certificates(files: tuple[str, str, str], authority: trustme.CA):
    certificate, key, ca = files
    with_mail = client(authority)
    issued = authority.issue_cert(
        "alice@example.test", "postmaster@example.test", "client.example.test", common_name="bob@example.test"
    )
    issued.configure_cert(with_mail)
    for asks, context, emails in (
        (ca, with_mail, ("alice@example.test", "postmaster@example.test")),
        (ca, client(authority), ()),
        ("", with_mail, ()),
    ):
        emails_seen: list[tuple[str, ...]] = []

        def connect(port: int, context: ssl.SSLContext = context) -> object:
            return handshake(context, port)

        connection, _ = seen(server_context(certificate, key, asks), connect)
        emails_seen.append(connection.certificate_emails)
        assert emails_seen == [emails]


def test_certificate_of_somebody_else_is_no_certificate(files: tuple[str, str, str], authority: trustme.CA):
    certificate, key, ca = files
    context = client(authority, ssl.TLSVersion.TLSv1_2)
    trustme.CA().issue_cert("alice@example.test").configure_cert(context)

    def connect(port: int) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(context, port)
        handshake(client(authority), port)

    connection, _ = seen(server_context(certificate, key, ca), connect)
    assert connection.certificate_emails == ()


def test_error_of_the_clients_authority_names_its_file(files: tuple[str, str, str], tmp_path: Path):
    certificate, key, _ = files
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(OSError) as caught:
            server_context(certificate, key, str(tmp_path / name))
        assert caught.value.filename == str(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "signed_with", "pss", "bound_with"),
    [
        (EC_KEY, hashes.SHA256(), False, "sha256"),
        (EC_KEY, hashes.SHA384(), False, "sha384"),
        (EC_KEY, hashes.SHA512(), False, "sha512"),
        (RSA_KEY, hashes.SHA256(), False, "sha256"),
        (RSA_KEY, hashes.SHA384(), False, "sha384"),
        (RSA_KEY, hashes.SHA256(), True, "sha256"),
        (RSA_KEY, hashes.SHA384(), True, "sha384"),
        (ed25519.Ed25519PrivateKey.generate(), None, False, ""),
    ],
)
def test_end_point_is_hashed_as_the_certificate_is_signed(
    key: rsa.RSAPrivateKey, signed_with: hashes.SHA256, pss: bool, bound_with: str
):
    """RFC 5929 §4.1; a signature without a hash of its own has no binding."""
    from cryptography.hazmat.primitives.serialization import Encoding

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.example.test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(DAY).not_valid_after(DAY)
    how = padding.PSS(padding.MGF1(signed_with), padding.PSS.DIGEST_LENGTH) if pss else None
    signed = builder.sign(key, signed_with, rsa_padding=how)
    expected = hashlib.new(bound_with, signed.public_bytes(Encoding.DER)).digest() if bound_with else b""
    assert end_point(signed.public_bytes(Encoding.PEM).decode()) == expected


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_certificate_has_no_end_point(pem: str):
    assert end_point(pem) == b""
