"""POP3's APOP (RFC 1939 §7) in the shape of a SASL mechanism: no client names it as one, but it ends as they do.

Invariants: those of ``exchange.py``.
"""

import hashlib
import hmac

from posthouse.protocols.sasl.credentials import Credentials
from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism, name, over, text
from posthouse.protocols.sasl.steps import Challenge, NeedCredentials, Step, Success


class Apop(ServerMechanism):
    """The challenge is the timestamp of the greeting, the response ``login digest`` as the command has them."""

    def __init__(self, timestamp: bytes) -> None:
        super().__init__()
        self._timestamp = timestamp
        self._digest = b""

    def credentials(self, known: Credentials | None) -> Step:
        if not self.login:
            return super().credentials(known)
        password = ((known and known.plain) or "").encode("utf-8", "surrogatepass")
        expected = hashlib.md5(self._timestamp + password, usedforsecurity=False).hexdigest().encode()
        is_right = hmac.compare_digest(expected, self._digest) and password != b""
        return self._end(Success(self.login) if is_right else WRONG)

    def _start(self, response: bytes | None) -> Step:
        if response is None:
            self._respond = self._answer
            return Challenge(self._timestamp)
        return self._answer(response)

    def _answer(self, response: bytes | None) -> Step:
        login, _, digest = (response or b"").rpartition(b" ")
        self._respond = over
        self.login, self._digest = name(text(login)), digest.lower()
        return NeedCredentials(self.login, "plain")
