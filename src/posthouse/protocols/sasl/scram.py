"""The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.

Invariants: those of ``server.py``. The salt of an account that does not exist is the same each time it is asked
for, as a real one's would be.
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256

from posthouse.protocols.sasl.credentials import (
    ITERATIONS,
    SALT_BYTES,
    Credentials,
    ScramKeys,
    decode_base64,
    encode_base64,
)
from posthouse.protocols.sasl.prepare import prepare
from posthouse.protocols.sasl.server import WRONG, ServerMechanism, name, text
from posthouse.protocols.sasl.steps import Challenge, Failure, NeedCredentials, Step, Success


@dataclass(frozen=True, slots=True)
class _ClientFirst:
    """client-first-message, taken apart. RFC 5802 §7."""

    gs2_header: str
    bare: str
    authzid: str
    login: str
    nonce: str


class ScramSha256(ServerMechanism):
    """One exchange. ``nonce``: ours, printable and without commas. ``secret``: see ``server.mechanism``."""

    def __init__(self, nonce: bytes, secret: bytes) -> None:
        super().__init__()
        self._nonce = nonce.decode("ascii")
        self._secret = secret
        self._first: _ClientFirst | None = None

    def credentials(self, known: Credentials | None) -> Step:
        if self._first is None:
            return super().credentials(known)
        first = self._first
        real = known.scram if known else None
        keys = real or fake_keys(first.login, self._secret)
        nonce = first.nonce + self._nonce
        challenge = f"r={nonce},s={encode_base64(keys.salt).decode()},i={keys.iterations}"
        self._respond = lambda response: self._final(
            response, first, keys, nonce, f"{first.bare},{challenge}", is_real=real is not None
        )
        return Challenge(challenge.encode())

    def _start(self, response: bytes | None) -> Step:
        if response is None:
            self._respond = self._client_first
            return Challenge(b"")
        return self._client_first(response)

    def _client_first(self, response: bytes | None) -> Step:
        self._first = _parse_first(text(response))
        self.login = self._first.login
        self._respond = _unexpected
        return NeedCredentials(self._first.login, "scram", self._first.authzid)

    def _final(
        self, response: bytes | None, first: _ClientFirst, keys: ScramKeys, nonce: str, so_far: str, *, is_real: bool
    ) -> Step:
        """Checks client-final-message and proves in turn that we know the keys."""
        message = text(response)
        without_proof, separator, proof = message.rpartition(",p=")
        attributes = without_proof.split(",")
        if not separator or len(attributes) < 2:
            raise ValueError("incomplete client-final-message")
        # The flag is repeated under the proof, so that nobody between can have changed it (RFC 5802 §6).
        if attributes[0] != "c=" + encode_base64(first.gs2_header.encode()).decode():
            raise ValueError("channel binding does not match")
        if attributes[1] != f"r={nonce}":
            raise ValueError("nonce does not match")
        signed = f"{so_far},{without_proof}".encode()
        is_right = _is_proof(decode_base64(proof.encode()), keys.stored_key, signed)
        if not (is_right and is_real):
            return self._end(WRONG)
        self._respond = self._acknowledged
        return Challenge(b"v=" + encode_base64(hmac.digest(keys.server_key, signed, "sha256")))

    def _acknowledged(self, response: bytes | None) -> Step:
        """SMTP, IMAP and POP3 carry no data with success: the last message is a challenge, answered by nothing."""
        if response:
            raise ValueError("data after the end")
        return self._end(Success(self.login))


def fake_keys(login: str, secret: bytes) -> ScramKeys:
    """Keys for an account that does not exist, always the same; no password leads to them. RFC 5802 §5.1."""
    salt = fake_salt(login, secret)
    return ScramKeys(
        salt,
        ITERATIONS,
        hmac.digest(secret, b"stored" + salt, "sha256"),
        hmac.digest(secret, b"server" + salt, "sha256"),
    )


def fake_salt(login: str, secret: bytes) -> bytes:
    """A salt for a login that has none of its own, whatever the login's case."""
    return hmac.digest(secret, b"salt" + login.lower().encode(), "sha256")[:SALT_BYTES]


def _is_proof(proof: bytes, stored_key: bytes, signed: bytes) -> bool:
    """RFC 5802 §3: H(ClientProof XOR ClientSignature) = StoredKey."""
    signature = hmac.digest(stored_key, signed, "sha256")
    if len(proof) != len(signature):
        return False
    key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(sha256(key).digest(), stored_key)


def _parse_first(message: str) -> _ClientFirst:
    flag, *rest = message.split(",", 2)
    if flag.startswith("p="):
        raise ValueError("channel binding is not offered")
    if flag not in ("n", "y") or len(rest) != 2:
        raise ValueError("no GS2 header")
    authzid, bare = rest
    attributes = bare.split(",")
    if attributes[0].startswith("m="):
        raise ValueError("unknown mandatory extension")  # RFC 5802 §5.1
    if len(attributes) < 2:
        raise ValueError("incomplete client-first-message")
    nonce = _value(attributes[1], "r=")
    if not nonce or not all("!" <= character <= "~" for character in nonce):
        raise ValueError("bad nonce")
    return _ClientFirst(
        gs2_header=f"{flag},{authzid},",
        bare=bare,
        authzid=prepare(_saslname(_value(authzid, "a="))) if authzid else "",
        login=name(_saslname(_value(attributes[0], "n="))),
        nonce=nonce,
    )


def _value(attribute: str, key: str) -> str:
    if not attribute.startswith(key):
        raise ValueError(f"{key} expected")
    return attribute[len(key) :]


def _saslname(encoded: str) -> str:
    """Decodes ``=2C`` and ``=3D``; any other ``=`` is wrong. RFC 5802 §5.1."""
    first, *rest = encoded.split("=")
    decoded = [first]
    for piece in rest:
        if piece[:2] not in ("2C", "3D"):
            raise ValueError("bad escape in a name")
        decoded.append(("," if piece[:2] == "2C" else "=") + piece[2:])
    return "".join(decoded)


def _unexpected(_: bytes | None) -> Step:
    return Failure("response while none was asked for")
