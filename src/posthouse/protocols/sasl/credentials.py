"""What a mechanism needs to know of an account, and SCRAM's keys (RFC 5802 §3, RFC 7677)."""

import hmac
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field
from hashlib import pbkdf2_hmac, sha256

from posthouse.protocols.sasl.prepare import password_bytes

ITERATIONS = 15_000
"""For new keys (RFC 7677 §4 asks for at least 4096). The client's work, not the server's."""
SALT_BYTES = 16
_MAX_ITERATIONS = 10_000_000
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What the server keeps for SCRAM-SHA-256: enough to check a login, not enough to log in with."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> "ScramKeys":
        """Keys for a password; takes a millisecond for about 2,000 iterations."""
        salted = pbkdf2_hmac("sha256", password_bytes(password), salt, iterations)
        stored_key = sha256(client_key(salted)).digest()
        return cls(salt, iterations, stored_key, server_key(salted))

    @classmethod
    def parse(cls, text: str) -> "ScramKeys":
        """From PostgreSQL's form (see ``str``) or Dovecot's ``iterations,salt,stored key,server key``."""
        parts = text.removeprefix("SCRAM-SHA-256$").replace("$", ":").replace(":", ",").split(",")
        if len(parts) != 4 or not (parts[0].isascii() and parts[0].isdecimal() and len(parts[0]) <= 8):
            raise ValueError("not SCRAM-SHA-256 keys")
        salt, stored_key, server_key = (decode_base64(part.encode()) for part in parts[1:])
        iterations = int(parts[0])
        if not 1 <= iterations <= _MAX_ITERATIONS or not salt:
            raise ValueError("SCRAM-SHA-256 keys without salt or with a senseless iteration count")
        if len(stored_key) != _DIGEST_BYTES or len(server_key) != _DIGEST_BYTES:
            raise ValueError("SCRAM-SHA-256 keys of a wrong length")
        return cls(salt, iterations, stored_key, server_key)

    def __str__(self) -> str:
        """``SCRAM-SHA-256$iterations:salt$stored key:server key``, as PostgreSQL keeps it."""
        salt, stored_key, server_key = (
            encode_base64(value).decode() for value in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored_key}:{server_key}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is known of an account: its password in clear, its SCRAM keys, both or neither."""

    plain: str | None = field(default=None, repr=False)
    scram: ScramKeys | None = None


def client_key(salted_password: bytes) -> bytes:
    return hmac.digest(salted_password, b"Client Key", "sha256")


def server_key(salted_password: bytes) -> bytes:
    return hmac.digest(salted_password, b"Server Key", "sha256")


def encode_base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


def decode_base64(data: bytes) -> bytes:
    """Strict: ``ValueError`` on anything outside the alphabet or wrongly padded (RFC 4648 §3.3)."""
    return a2b_base64(data, strict_mode=True)
