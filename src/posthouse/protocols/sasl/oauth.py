"""The server's side of OAUTHBEARER (RFC 7628) and of Google's XOAUTH2: an access token in place of a password.

Invariants: those of ``exchange.py``. Only when the client has answered the error is the exchange over (RFC 7628
§3.2.3).
"""

import re
from abc import abstractmethod
from typing import ClassVar, Literal

from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism, name, over, text
from posthouse.protocols.sasl.gs2 import parse_header
from posthouse.protocols.sasl.steps import Challenge, NeedToken, Step, Success

MAX_TOKEN_BYTES = 16_384
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token: RFC 6750 §2.1
_KEY = re.compile(r"[A-Za-z]+")


class _TokenMechanism(ServerMechanism):
    """One message with the token; where it is not good, an error and the client's answer to it."""

    max_response_bytes = MAX_TOKEN_BYTES + 1024
    mechanism: ClassVar[Literal["OAUTHBEARER", "XOAUTH2"]]
    error: ClassVar[bytes]

    def __init__(self) -> None:
        super().__init__()
        self._is_asked = False

    def verified(self, is_right: bool) -> Step:
        """Where the client named nobody there is nobody whom a bare yes could mean."""
        return self.verified_as(self.login if is_right else None)

    def verified_as(self, account: str | None) -> Step:
        if not self._is_asked:
            return super().verified_as(account)
        self._is_asked = False
        if account:
            return self._end(Success(account))
        self._respond = self._error_answered
        return Challenge(self.error)

    def _start(self, response: bytes | None) -> Step:
        if response is None:
            self._respond = self._message
            return Challenge(b"")
        return self._message(response)

    @abstractmethod
    def _message(self, response: bytes | None) -> Step:
        """Takes the one message apart."""

    def _error_answered(self, _: bytes | None) -> Step:
        return self._end(WRONG)

    def _verify(self, login: str, scheme: str) -> Step:
        kind, _, token = scheme.partition(" ")
        token = token.strip(" ")
        if kind.lower() != "bearer" or not _TOKEN.fullmatch(token) or len(token) > MAX_TOKEN_BYTES:
            raise ValueError("no bearer token")
        self._respond = over
        self._is_asked = True
        self.login = login
        return NeedToken(login, token, self.mechanism)


class OAuthBearer(_TokenMechanism):
    """A GS2 header with the account, then ``key=value`` pairs, ``auth`` among them. RFC 7628 §3.1."""

    mechanism = "OAUTHBEARER"
    error = b'{"status":"invalid_token"}'

    def _message(self, response: bytes | None) -> Step:
        header, rest = parse_header(text(response))
        if header.binding:
            raise ValueError("channel binding is not offered")
        # Host and port are where the client believes to be: this is where it is (RFC 7628 §3.1).
        pairs = _pairs(rest.removeprefix("\1") if rest.startswith("\1") else "")
        return self._verify(header.authzid, pairs.get("auth", ""))


class XOAuth2(_TokenMechanism):
    """``user=…`` and ``auth=Bearer …``, as Google's documentation of Gmail's IMAP has it."""

    mechanism = "XOAUTH2"
    error = b'{"status":"401","schemes":"bearer"}'

    def _message(self, response: bytes | None) -> Step:
        pairs = _pairs(text(response))
        return self._verify(name(pairs.get("user", "")), pairs.get("auth", ""))


def _pairs(message: str) -> dict[str, str]:
    """``key=value`` pairs, each ended by %x01, and another one after the last. RFC 7628 §3.1."""
    *fields, last, end = message.split("\1") if "\1" in message else ("", "", "?")
    if last or end:
        raise ValueError("pairs without an end")
    pairs: dict[str, str] = {}
    for field in fields:
        key, _, value = field.partition("=")
        if not _KEY.fullmatch(key) or key in pairs:
            raise ValueError("not a pair, or one twice")
        pairs[key] = value
    return pairs
