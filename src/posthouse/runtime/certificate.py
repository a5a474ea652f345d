"""The channel binding ``tls-server-end-point`` of a certificate (RFC 5929 §4), and its public key, without a library
for certificates.

What is read is a certificate that OpenSSL has accepted. One that is signed in a way that has no hash of its
own, as by Ed25519, has no such binding.
"""

import hashlib
import re
import ssl
from typing import Final

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PSS: Final = bytes.fromhex("2a864886f70d01010a")
# RFC 5929 §4.1: in place of MD5 and SHA-1 it is SHA-256.
_HASHES: Final = {
    **{bytes.fromhex("2a864886f70d0101" + last): name for last, name in (
        ("04", "sha256"), ("05", "sha256"), ("0e", "sha224"), ("0b", "sha256"), ("0c", "sha384"), ("0d", "sha512"),
    )},  # RSA, RFC 8017 appendix A.2.4
    **{bytes.fromhex("2a8648ce3d04" + last): name for last, name in (
        ("01", "sha256"), ("0301", "sha224"), ("0302", "sha256"), ("0303", "sha384"), ("0304", "sha512"),
    )},  # ECDSA, RFC 5758 §3.2
    **{bytes.fromhex("6086480165030402" + last): name for last, name in (
        ("04", "sha224"), ("01", "sha256"), ("02", "sha384"), ("03", "sha512"),
    )},  # the hashes themselves, as RSASSA-PSS names them
}  # fmt: skip


def end_point(pem: str) -> bytes:
    """The hash of the first certificate, by the hash of its signature; empty where there is none."""
    found = _PEM.search(pem)
    if found is None:
        return b""
    try:
        der = ssl.PEM_cert_to_DER_cert(found[0])
        name = _signature_hash(der)
    except (ValueError, IndexError):
        return b""
    return hashlib.new(name, der).digest() if name else b""


def public_key_info(der: bytes) -> bytes:
    """A certificate's SubjectPublicKeyInfo, as it stands there (RFC 5280 §4.1). ``ValueError``, ``IndexError``."""
    certificate, _ = _element(der)
    rest, _ = _element(certificate)
    if rest[:1] == b"\xa0":  # the version
        _, rest = _element(rest)
    for _ in range(5):  # serial number, signature, issuer, validity, subject
        _, rest = _element(rest)
    _, after = _element(rest)
    return rest[: len(rest) - len(after)]


def _signature_hash(der: bytes) -> str:
    """Of ``SEQUENCE { tbsCertificate, signatureAlgorithm, signature }`` (RFC 5280 §4.1) the second."""
    certificate, _ = _element(der)
    _, rest = _element(certificate)
    algorithm, _ = _element(rest)
    name, parameters = _element(algorithm)
    if name == _PSS:
        # RFC 8017 appendix A.2.3: the hash is optional, tagged [0]; without it, it is SHA-1.
        parameters, _ = _element(parameters)
        if not parameters.startswith(b"\xa0"):
            return "sha256"
        tagged, _ = _element(parameters)
        hashed, _ = _element(tagged)
        name, _ = _element(hashed)
        return _HASHES.get(name, "sha256")
    return _HASHES.get(name, "")


def _element(der: bytes) -> tuple[bytes, bytes]:
    """The content of the first DER element, and what follows it."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[start : start + length], der[start + length :]
