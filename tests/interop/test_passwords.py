"""Stored passwords that other programs made: Dovecot's ``doveadm pw``, OpenSSL, mkpasswd."""

import itertools

import pytest
from tests.interop.house import run

from posthouse.services.passwords import clear_password, cram_md5, scram_keys, verify

PASSWORD = "pässword & more"
NOT_OURS = {"OTP", "DIGEST-MD5", "PLAIN-MD4", "PLAIN-TRUNC", "LANMAN", "NTLM", "RPA", "SKEY"}
"""What Dovecot can make and we don't take: needs more than a password, or is broken beyond use."""


@pytest.fixture(scope="module")
def doveadm(need):
    program = need("doveadm")

    def make(*arguments: str) -> str:
        # Its statistics have a socket that only a running Dovecot has.
        return run(program, "-o", "stats_writer_socket_path=", "pw", *arguments).strip()

    return make


def test_every_scheme_of_dovecot_is_known(doveadm):
    schemes = set(doveadm("-l").split()) - NOT_OURS
    assert len(schemes) >= 20
    for scheme, suffix in itertools.product(sorted(schemes), ("", ".b64", ".hex")):
        # A hash that is text all through is stored as it is, nobody encodes it once more.
        if suffix and (scheme.endswith("CRYPT") or scheme.startswith(("ARGON", "SCRAM", "PBKDF2"))):
            continue
        stored = doveadm("-s", scheme + suffix, "-p", PASSWORD, "-u", "alice@example.test")
        assert verify(stored, PASSWORD), stored
        assert not verify(stored, "x" + PASSWORD), stored


def test_what_dovecot_keeps_for_other_mechanisms_serves_those(doveadm):
    assert scram_keys(doveadm("-s", "SCRAM-SHA-256", "-p", PASSWORD)) is not None
    assert scram_keys(doveadm("-s", "SCRAM-SHA-1", "-p", PASSWORD), "sha1") is not None
    assert cram_md5(doveadm("-s", "CRAM-MD5", "-p", PASSWORD)) is not None
    assert clear_password(doveadm("-s", "PLAIN", "-p", PASSWORD)) == PASSWORD


@pytest.mark.parametrize("kind", ["-1", "-5", "-6"])
def test_crypt_strings_of_openssl_are_known(need, kind):
    stored = run(need("openssl"), "passwd", kind, PASSWORD).strip()
    assert verify(stored, PASSWORD, plain_crypt=True)
    assert verify("{CRYPT}" + stored, PASSWORD)
    assert not verify("{CRYPT}" + stored, PASSWORD + "x")


@pytest.mark.parametrize("method", ["yescrypt", "bcrypt", "descrypt"])
def test_crypt_strings_of_mkpasswd_are_known(need, method):
    stored = run(need("mkpasswd"), "-m", method, PASSWORD).strip()
    assert verify("{CRYPT}" + stored, PASSWORD)
    assert not verify("{CRYPT}" + stored, "x" + PASSWORD)
