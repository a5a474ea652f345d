"""The server's side of CRAM-MD5 (RFC 2195), and of the same with SHA-1, which Courier calls CRAM-SHA1.

Invariants: those of ``exchange.py``.
"""

import hmac
from typing import ClassVar

from posthouse.protocols.sasl.credentials import CRAM_MD5_BYTES, Credentials
from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism, name, over, text
from posthouse.protocols.sasl.md5 import hmac_md5
from posthouse.protocols.sasl.steps import Challenge, CredentialKind, NeedCredentials, Step, Success


class Cram(ServerMechanism):
    """The client proves that it knows the password by an HMAC over our challenge. RFC 2195 §2."""

    algorithm: ClassVar[str]
    kind: ClassVar[CredentialKind]

    def __init__(self, challenge: bytes) -> None:
        super().__init__()
        self._challenge = challenge
        self._digest = b""

    def credentials(self, known: Credentials | None) -> Step:
        if not self.login:
            return super().credentials(known)
        return self._end(Success(self.login) if self._is_right(known or Credentials()) else WRONG)

    def _is_right(self, known: Credentials) -> bool:
        password = (known.plain or "").encode("utf-8", "surrogatepass")
        expected = hmac.digest(password, self._challenge, self.algorithm).hex().encode()
        return hmac.compare_digest(expected, self._digest) and password != b""

    def _start(self, response: bytes | None) -> Step:
        if response is not None:
            raise ValueError("initial response where the server speaks first")  # RFC 4422 §3
        self._respond = self._answer
        return Challenge(self._challenge)

    def _answer(self, response: bytes | None) -> Step:
        login, _, digest = (response or b"").rpartition(b" ")
        self._respond = over
        self.login, self._digest = name(text(login)), digest.lower()
        return NeedCredentials(self.login, self.kind)


class CramSha1(Cram):
    algorithm = "sha1"
    kind = "plain"


class CramMd5(Cram):
    algorithm = "md5"
    kind = "cram-md5"

    def _is_right(self, known: Credentials) -> bool:
        # Both ways for everybody: how long it takes does not tell what is stored.
        expected = hmac_md5(known.cram_md5 or bytes(CRAM_MD5_BYTES), self._challenge).hex().encode()
        by_context = hmac.compare_digest(expected, self._digest) and known.cram_md5 is not None
        return super()._is_right(known) or by_context
