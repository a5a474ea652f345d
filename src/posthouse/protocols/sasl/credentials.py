"""What a mechanism needs to know of an account, and SCRAM's keys (RFC 5802 §3, RFC 7677 for SHA-256)."""

import hmac
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field
from hashlib import new as new_hash
from hashlib import pbkdf2_hmac
from typing import Final, Literal

from posthouse.protocols.sasl.prepare import password_bytes

ScramHash = Literal["sha1", "sha256"]
DIGEST_BYTES: Final[dict[ScramHash, int]] = {"sha1": 20, "sha256": 32}
NAMES: Final[dict[ScramHash, str]] = {"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"}
ITERATIONS = 15_000
"""For new keys (RFC 7677 §4 asks for at least 4096). The client's work, not the server's."""
SALT_BYTES = 16
CRAM_MD5_BYTES = 32
_MAX_ITERATIONS = 10_000_000


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What the server keeps for SCRAM: enough to check a login, not enough to log in with."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    algorithm: ScramHash = "sha256"

    @classmethod
    def derive(
        cls, password: str, salt: bytes, iterations: int = ITERATIONS, algorithm: ScramHash = "sha256"
    ) -> "ScramKeys":
        """Keys for a password; takes a millisecond for about 2,000 iterations."""
        salted = pbkdf2_hmac(algorithm, password_bytes(password), salt, iterations)
        stored_key = digest(client_key(salted, algorithm), algorithm)
        return cls(salt, iterations, stored_key, server_key(salted, algorithm), algorithm)

    @classmethod
    def parse(cls, text: str, algorithm: ScramHash = "sha256") -> "ScramKeys":
        """From PostgreSQL's form (see ``str``) or Dovecot's ``iterations,salt,stored key,server key``."""
        name = NAMES[algorithm]
        parts = text.removeprefix(f"{name}$").replace("$", ":").replace(":", ",").split(",")
        if len(parts) != 4 or not (parts[0].isascii() and parts[0].isdecimal() and len(parts[0]) <= 8):
            raise ValueError(f"not {name} keys")
        salt, stored_key, server_key = (decode_base64(part.encode()) for part in parts[1:])
        iterations = int(parts[0])
        if not 1 <= iterations <= _MAX_ITERATIONS or not salt:
            raise ValueError(f"{name} keys without salt or with a senseless iteration count")
        if len(stored_key) != DIGEST_BYTES[algorithm] or len(server_key) != DIGEST_BYTES[algorithm]:
            raise ValueError(f"{name} keys of a wrong length")
        return cls(salt, iterations, stored_key, server_key, algorithm)

    def __str__(self) -> str:
        """``SCRAM-SHA-256$iterations:salt$stored key:server key``, as PostgreSQL keeps it."""
        salt, stored_key, server_key = (
            encode_base64(value).decode() for value in (self.salt, self.stored_key, self.server_key)
        )
        return f"{NAMES[self.algorithm]}${self.iterations}:{salt}${stored_key}:{server_key}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is known of an account: its password in clear, SCRAM keys, any of it or nothing.

    ``cram_md5``: Dovecot's stored context of HMAC-MD5 (``sasl.md5``), 32 bytes.
    """

    plain: str | None = field(default=None, repr=False)
    scram_sha256: ScramKeys | None = None
    scram_sha1: ScramKeys | None = None
    cram_md5: bytes | None = field(default=None, repr=False)


def client_key(salted_password: bytes, algorithm: ScramHash = "sha256") -> bytes:
    return hmac.digest(salted_password, b"Client Key", algorithm)


def server_key(salted_password: bytes, algorithm: ScramHash = "sha256") -> bytes:
    return hmac.digest(salted_password, b"Server Key", algorithm)


def digest(data: bytes, algorithm: ScramHash) -> bytes:
    return new_hash(algorithm, data, usedforsecurity=False).digest()


def encode_base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


def decode_base64(data: bytes) -> bytes:
    """Strict: ``ValueError`` on anything outside the alphabet or wrongly padded (RFC 4648 §3.3)."""
    return a2b_base64(data, strict_mode=True)
