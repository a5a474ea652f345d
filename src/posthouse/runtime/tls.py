"""The server's TLS: contexts from files, and a self-signed pair for the first start.

Everything is read when a context is made, by who may read it; a connection needs no file.
"""

import errno
import os
import ssl
from dataclasses import dataclass

from posthouse.runtime.certificate import end_point


class ServerContext(ssl.SSLContext):
    """A server's context. ``end_point``: the channel binding of its certificate, or empty (RFC 5929 §4.1)."""

    end_point: bytes = b""


@dataclass(frozen=True, slots=True)
class Contexts:
    """``users`` are asked for their certificates where that is configured, other mail ``servers`` never: many have
    one that somebody else signed, and would not get through."""

    servers: ServerContext
    users: ServerContext


def server_context(certificate: str, key: str, client_ca: str = "") -> ServerContext:
    """TLS 1.2 and 1.3 with OpenSSL's default ciphers. Raises ``OSError`` that names the files.

    ``client_ca``: who signs clients' certificates. Clients are asked for theirs then and need not have one, but one
    that these didn't sign, or that has expired, ends the handshake: OpenSSL leaves no choice.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        for path in (certificate, key):
            os.close(os.open(path, os.O_RDONLY))
        reason = f"not a certificate and its key in PEM form ({error.strerror or error})"
        raise OSError(errno.EINVAL, reason, f"{certificate}, {key}") from error
    with open(certificate, encoding="ascii", errors="replace") as file:
        context.end_point = end_point(file.read())
    if client_ca:
        _ask_for_certificates(context, client_ca)
    return context


def _ask_for_certificates(context: ssl.SSLContext, client_ca: str) -> None:
    try:
        context.load_verify_locations(client_ca)
    except OSError as error:
        os.close(os.open(client_ca, os.O_RDONLY))
        reason = f"no certificates in PEM form ({error.strerror or error})"
        raise OSError(errno.EINVAL, reason, client_ca) from error
    context.verify_mode = ssl.CERT_OPTIONAL


def make_self_signed(certificate: str, key: str, hostname: str) -> None:
    """Write a key and a certificate for ``hostname``, valid for ten years, the key readable by its owner only."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(hostname), x509.DNSName("localhost")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, pem, 0o600)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: str, data: bytes, mode: int) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
