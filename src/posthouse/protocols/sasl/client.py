"""The client's side of PLAIN, LOGIN, CRAM and SCRAM, for a relayhost that wants a login.

Invariants:
  1. A challenge that makes no sense raises ValueError; nothing secret is sent in answer to it.
  2. ``is_complete`` only once the server has said all that the mechanism requires of it: with SCRAM, once it has
     proved that it knows the password too.
"""

import hmac
from hashlib import pbkdf2_hmac

from posthouse.protocols.sasl.credentials import (
    ScramHash,
    client_key,
    decode_base64,
    digest,
    encode_base64,
    server_key,
)
from posthouse.protocols.sasl.prepare import password_bytes, prepare

_MAX_ITERATIONS = 1_000_000
_MIN_ITERATIONS = 4096  # RFC 7677 §4


def mechanism(
    name: str, login: str, password: str, *, nonce: bytes, binding: tuple[str, bytes] | None = None
) -> "ClientMechanism | None":
    """The mechanism of that name (any case), or None where there is none.

    ``nonce``: 16 or more random bytes. ``binding``: type and data of the connection's channel binding, without which
    there is no -PLUS.
    """
    name = name.upper()
    match name:
        case "PLAIN":
            return Plain(login, password)
        case "LOGIN":
            return Login(login, password)
        case "CRAM-MD5":
            return Cram(login, password, "md5")
        case "CRAM-SHA1":
            return Cram(login, password, "sha1")
        case "SCRAM-SHA-256" | "SCRAM-SHA-1":
            return Scram(login, password, encode_base64(nonce), "sha1" if name == "SCRAM-SHA-1" else "sha256")
        case "SCRAM-SHA-256-PLUS" | "SCRAM-SHA-1-PLUS" if binding is not None:
            algorithm = "sha1" if name == "SCRAM-SHA-1-PLUS" else "sha256"
            return Scram(login, password, encode_base64(nonce), algorithm, binding)
        case _:
            return None


class ClientMechanism:
    """One authentication exchange."""

    def __init__(self, login: str, password: str) -> None:
        if not login or not password or "\0" in login + password:
            raise ValueError("login and password must not be empty nor contain NUL")
        self._login = prepare(login)
        self._password = password
        self.is_complete = False

    def initial(self) -> bytes | None:
        """The initial response, or None where the server speaks first."""
        return None

    def respond(self, challenge: bytes) -> bytes:  # noqa: ARG002
        """The response to a challenge."""
        raise ValueError("challenge where none was expected")


class Plain(ClientMechanism):
    """RFC 4616 §2."""

    def initial(self) -> bytes:
        self.is_complete = True
        return b"\0%s\0%s" % (self._login.encode(), password_bytes(self._password))


class Login(ClientMechanism):
    """Servers word their two questions differently: the order is what counts."""

    def __init__(self, login: str, password: str) -> None:
        super().__init__(login, password)
        self._answers = [password_bytes(password), self._login.encode()]

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            return super().respond(challenge)
        answer = self._answers.pop()
        self.is_complete = not self._answers
        return answer


class Cram(ClientMechanism):
    """RFC 2195 §2, also with another hash."""

    def __init__(self, login: str, password: str, algorithm: str = "md5") -> None:
        super().__init__(login, password)
        self._algorithm = algorithm

    def respond(self, challenge: bytes) -> bytes:
        if self.is_complete:
            return super().respond(challenge)
        self.is_complete = True
        answer = hmac.digest(self._password.encode(), challenge, self._algorithm).hex()
        return f"{self._login} {answer}".encode()


class Scram(ClientMechanism):
    """RFC 5802 §3 and §5, RFC 7677. ``nonce``: printable and without commas. ``binding``: see ``mechanism``."""

    def __init__(
        self,
        login: str,
        password: str,
        nonce: bytes,
        algorithm: ScramHash = "sha256",
        binding: tuple[str, bytes] | None = None,
    ) -> None:
        super().__init__(login, password)
        self._algorithm: ScramHash = algorithm
        kind, data = binding or ("", b"")
        self._header = b"p=%s,," % kind.encode() if binding else b"n,,"
        self._bound = encode_base64(self._header + data)
        name = self._login.replace("=", "=3D").replace(",", "=2C")
        self._nonce = nonce
        self._bare = b"n=%s,r=%s" % (name.encode(), nonce)
        self._server_signature: bytes | None = None

    def initial(self) -> bytes:
        return self._header + self._bare

    def respond(self, challenge: bytes) -> bytes:
        if self.is_complete:
            return super().respond(challenge)
        if self._server_signature is None:
            return self._final(challenge)
        if not hmac.compare_digest(challenge, b"v=" + encode_base64(self._server_signature)):
            raise ValueError("the server does not know the password")
        self.is_complete = True
        return b""

    def _final(self, server_first: bytes) -> bytes:
        nonce, salt, iterations = _parse_server_first(server_first)
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ValueError("the server's nonce does not extend ours")
        salted = pbkdf2_hmac(self._algorithm, password_bytes(self._password), salt, iterations)
        without_proof = b"c=%s,r=%s" % (self._bound, nonce)
        signed = b",".join((self._bare, server_first, without_proof))
        key = client_key(salted, self._algorithm)
        signature = hmac.digest(digest(key, self._algorithm), signed, self._algorithm)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._server_signature = hmac.digest(server_key(salted, self._algorithm), signed, self._algorithm)
        return b"%s,p=%s" % (without_proof, encode_base64(proof))


def _parse_server_first(message: bytes) -> tuple[bytes, bytes, int]:
    """Nonce, salt and iteration count. RFC 5802 §7."""
    attributes = message.split(b",")
    if len(attributes) < 3:
        raise ValueError("incomplete server-first-message")
    nonce, salt, iterations = attributes[:3]
    if not (nonce.startswith(b"r=") and salt.startswith(b"s=") and iterations.startswith(b"i=")):
        raise ValueError("not a server-first-message")
    digits = iterations[2:]
    if not (digits.isdigit() and len(digits) <= 7 and _MIN_ITERATIONS <= int(digits) <= _MAX_ITERATIONS):
        raise ValueError("iteration count out of bounds")
    return nonce[2:], decode_base64(salt[2:]), int(digits)
