"""The server's side of SCRAM (RFC 5802; RFC 7677 for SHA-256), without and with channel binding.

Invariants: those of ``exchange.py``. The salt of an account that does not exist is the same each time it is asked
for, as a real one's would be. With channel binding, who is between the client and us can't log in by passing on what
they say, nor talk them out of channel binding.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.message.address import lookup_key
from posthouse.protocols.sasl.credentials import (
    DIGEST_BYTES,
    ITERATIONS,
    SALT_BYTES,
    Credentials,
    ScramHash,
    ScramKeys,
    decode_base64,
    digest,
    encode_base64,
)
from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism, name, text
from posthouse.protocols.sasl.gs2 import Header, attribute, parse_header, saslname
from posthouse.protocols.sasl.steps import Challenge, CredentialKind, Failure, NeedCredentials, Step, Success

_KINDS: dict[ScramHash, CredentialKind] = {"sha1": "scram-sha-1", "sha256": "scram-sha-256"}


@dataclass(frozen=True, slots=True)
class _ClientFirst:
    """client-first-message, taken apart. RFC 5802 §7."""

    gs2: Header
    bare: str
    login: str
    nonce: str


class Scram(ServerMechanism):
    """One exchange. ``nonce``: ours, printable and without commas. ``secret``: see ``server.mechanism``.

    ``bindings``: for a -PLUS mechanism, those that the connection has. ``offers_plus``: whether the -PLUS one was
    offered beside this, which a client that could have taken it must not believe to be missing.
    """

    def __init__(
        self,
        nonce: bytes,
        secret: bytes,
        algorithm: ScramHash = "sha256",
        bindings: Mapping[str, bytes] | None = None,
        *,
        offers_plus: bool = False,
    ) -> None:
        super().__init__()
        self._nonce = nonce.decode("ascii")
        self._secret = secret
        self._algorithm: ScramHash = algorithm
        self._bindings = bindings
        self._offers_plus = offers_plus
        self._first: _ClientFirst | None = None

    def credentials(self, known: Credentials | None) -> Step:
        if self._first is None:
            return super().credentials(known)
        first = self._first
        real = self._keys(known)
        keys = real or fake_keys(first.login, self._secret, self._algorithm)
        nonce = first.nonce + self._nonce
        challenge = f"r={nonce},s={encode_base64(keys.salt).decode()},i={keys.iterations}"
        self._respond = lambda response: self._final(
            response, first, keys, nonce, f"{first.bare},{challenge}", is_real=real is not None
        )
        return Challenge(challenge.encode())

    def _keys(self, known: Credentials | None) -> ScramKeys | None:
        keys = known and (known.scram_sha1 if self._algorithm == "sha1" else known.scram_sha256)
        if keys and (keys.algorithm != self._algorithm or len(keys.stored_key) != DIGEST_BYTES[self._algorithm]):
            raise RuntimeError("keys of another SCRAM")
        return keys

    def _start(self, response: bytes | None) -> Step:
        if response is None:
            self._respond = self._client_first
            return Challenge(b"")
        return self._client_first(response)

    def _client_first(self, response: bytes | None) -> Step:
        first = _parse_first(text(response))
        self._check_binding(first.gs2)
        self._first = first
        self.login = first.login
        self._respond = _unexpected
        return NeedCredentials(first.login, _KINDS[self._algorithm], first.gs2.authzid)

    def _check_binding(self, gs2: Header) -> None:
        """RFC 5802 §6."""
        if gs2.flag == "y" and self._offers_plus:
            raise ValueError("somebody has hidden from the client that channel binding is offered")
        if self._bindings is None:
            if gs2.binding:
                raise ValueError("channel binding is not offered")
        elif gs2.binding not in self._bindings:
            raise ValueError(f"no channel binding, or not one that this connection has: {gs2.binding[:40]}")

    def _final(
        self, response: bytes | None, first: _ClientFirst, keys: ScramKeys, nonce: str, so_far: str, *, is_real: bool
    ) -> Step:
        """Checks client-final-message and proves in turn that we know the keys."""
        message = text(response)
        without_proof, separator, proof = message.rpartition(",p=")
        attributes = without_proof.split(",")
        if not separator or len(attributes) < 2:
            raise ValueError("incomplete client-final-message")
        # The header is repeated under the proof, so that nobody between can have changed it, and the binding's data
        # with it, so that the client's connection is ours (RFC 5802 §6).
        data = self._bindings[first.gs2.binding] if self._bindings else b""
        bound = "c=" + encode_base64(first.gs2.text.encode() + data).decode()
        if not hmac.compare_digest(attributes[0].encode(), bound.encode()):
            raise ValueError("channel binding does not match")
        if attributes[1] != f"r={nonce}":
            raise ValueError("nonce does not match")
        signed = f"{so_far},{without_proof}".encode()
        is_right = _is_proof(decode_base64(proof.encode()), keys.stored_key, signed, self._algorithm)
        if not (is_right and is_real):
            return self._end(WRONG)
        self._respond = self._acknowledged
        return Challenge(b"v=" + encode_base64(hmac.digest(keys.server_key, signed, self._algorithm)))

    def _acknowledged(self, response: bytes | None) -> Step:
        """SMTP, IMAP and POP3 carry no data with success: the last message is a challenge, answered by nothing."""
        if response:
            raise ValueError("data after the end")
        return self._end(Success(self.login))


def fake_keys(login: str, secret: bytes, algorithm: ScramHash = "sha256") -> ScramKeys:
    """Keys for an account that does not exist, always the same; no password leads to them. RFC 5802 §5.1."""
    salt = fake_salt(login, secret)
    return ScramKeys(
        salt,
        ITERATIONS,
        hmac.digest(secret, b"stored" + salt, algorithm),
        hmac.digest(secret, b"server" + salt, algorithm),
        algorithm,
    )


def fake_salt(login: str, secret: bytes) -> bytes:
    """A salt for a login that has none of its own, however it is spelled."""
    return hmac.digest(secret, b"salt" + lookup_key(login).encode(), "sha256")[:SALT_BYTES]


def _is_proof(proof: bytes, stored_key: bytes, signed: bytes, algorithm: ScramHash) -> bool:
    """RFC 5802 §3: H(ClientProof XOR ClientSignature) = StoredKey."""
    signature = hmac.digest(stored_key, signed, algorithm)
    if len(proof) != len(signature):
        return False
    key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(digest(key, algorithm), stored_key)


def _parse_first(message: str) -> _ClientFirst:
    gs2, bare = parse_header(message)
    attributes = bare.split(",")
    if attributes[0].startswith("m="):
        raise ValueError("unknown mandatory extension")  # RFC 5802 §5.1
    if len(attributes) < 2:
        raise ValueError("incomplete client-first-message")
    nonce = attribute(attributes[1], "r=")
    if not nonce or not all("!" <= character <= "~" for character in nonce):
        raise ValueError("bad nonce")
    return _ClientFirst(gs2, bare, name(saslname(attribute(attributes[0], "n="))), nonce)


def _unexpected(_: bytes | None) -> Step:
    return Failure("response while none was asked for")
