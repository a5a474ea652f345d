"""The server's side of PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login) and CRAM-MD5 (RFC 2195), and the
face that all mechanisms have. SCRAM has a file of its own.

Invariants:
  1. Whatever the client sends, the answer is a Step, never an exception; after Success or Failure only Failure.
  2. An account that does not exist goes the same way as one with another password, up to the same Failure.
  3. Secrets are compared in constant time.
"""

import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable

from posthouse.protocols.sasl.credentials import Credentials, encode_base64
from posthouse.protocols.sasl.prepare import prepare
from posthouse.protocols.sasl.steps import (
    Challenge,
    Failure,
    NeedCredentials,
    NeedVerify,
    Step,
    Success,
)

MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")
"""Strongest first; the order in which they are offered."""
MAX_RESPONSE_BYTES = 4096
"""Longest response that is looked at, decoded. RFC 4616 §2 allows 255 characters for each of its three parts."""
WRONG = Failure("wrong login or password")


def mechanism(name: str, *, nonce: bytes, secret: bytes, hostname: str) -> "ServerMechanism | None":
    """The mechanism of that name (any case), or None where there is none.

    ``nonce``: 16 or more random bytes, new for each call. ``secret``: random bytes that stay, from which salts
    for unknown accounts are derived. ``hostname``: this server's, for CRAM-MD5's challenge.
    """
    match name.upper():
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case "CRAM-MD5":
            return CramMd5(b"<%s@%s>" % (nonce.hex().encode(), hostname.encode("ascii", "replace")))
        case "SCRAM-SHA-256":
            from posthouse.protocols.sasl.scram import ScramSha256

            return ScramSha256(encode_base64(nonce), secret)
        case _:
            return None


class ServerMechanism(ABC):
    """One authentication exchange.

    ``step`` takes the client's response, decoded from base64; first the initial response, or None without one.
    ``credentials`` and ``verified`` answer the steps that ask for them, and nothing else does. ``login`` is who
    the client says it is, empty before it has said so.
    """

    def __init__(self) -> None:
        self.login = ""
        self._respond: Callable[[bytes | None], Step] = self._start

    def step(self, response: bytes | None) -> Step:
        """What follows from the client's response."""
        if response is not None and len(response) > MAX_RESPONSE_BYTES:
            return self._end(Failure("response too long"))
        try:
            return self._respond(response)
        except ValueError as error:
            return self._end(Failure(f"malformed response: {error}"))

    def credentials(self, known: Credentials | None) -> Step:  # noqa: ARG002
        """Answers NeedCredentials."""
        raise RuntimeError("no credentials were asked for")

    def verified(self, is_right: bool) -> Step:  # noqa: ARG002
        """Answers NeedVerify."""
        raise RuntimeError("no password was to be verified")

    @abstractmethod
    def _start(self, response: bytes | None) -> Step:
        """What follows from the initial response."""

    def _end(self, outcome: Success | Failure) -> Step:
        self._respond = _over
        return outcome


class _PasswordMechanism(ServerMechanism):
    """Has the password sent and verified as it is."""

    def verified(self, is_right: bool) -> Step:
        if not self.login:
            return super().verified(is_right)
        return self._end(Success(self.login) if is_right else WRONG)

    def _verify(self, login: str, password: str, authzid: str = "") -> Step:
        if not password:
            raise ValueError("empty password")
        self._respond = _over
        self.login = login
        return NeedVerify(login, password, authzid)


class Plain(_PasswordMechanism):
    """``authzid NUL authcid NUL password``. RFC 4616 §2."""

    def _start(self, response: bytes | None) -> Step:
        if response is None:
            self._respond = self._message
            return Challenge(b"")
        return self._message(response)

    def _message(self, response: bytes | None) -> Step:
        authzid, login, password = text(response).split("\0")
        return self._verify(name(login), password, prepare(authzid))


class Login(_PasswordMechanism):
    """``Username:`` and ``Password:``, each asked for on its own. Some clients send the first unasked."""

    def _start(self, response: bytes | None) -> Step:
        if response is not None:
            return self._username(response)
        self._respond = self._username
        return Challenge(b"Username:")

    def _username(self, response: bytes | None) -> Step:
        login = name(text(response))
        self._respond = lambda response: self._password(login, response)
        return Challenge(b"Password:")

    def _password(self, login: str, response: bytes | None) -> Step:
        password = text(response)
        if "\0" in password:
            raise ValueError("NUL in the password")
        return self._verify(login, password)


class CramMd5(ServerMechanism):
    """The client proves that it knows the password by an HMAC over our challenge. RFC 2195 §2."""

    def __init__(self, challenge: bytes) -> None:
        super().__init__()
        self._challenge = challenge
        self._digest = b""

    def credentials(self, known: Credentials | None) -> Step:
        if not self.login:
            return super().credentials(known)
        password = ((known and known.plain) or "").encode("utf-8", "surrogatepass")
        expected = hmac.digest(password, self._challenge, "md5").hex().encode()
        is_right = hmac.compare_digest(expected, self._digest) and password != b""
        return self._end(Success(self.login) if is_right else WRONG)

    def _start(self, response: bytes | None) -> Step:
        if response is not None:
            raise ValueError("initial response where the server speaks first")  # RFC 4422 §3
        self._respond = self._answer
        return Challenge(self._challenge)

    def _answer(self, response: bytes | None) -> Step:
        login, _, digest = (response or b"").rpartition(b" ")
        self._respond = _over
        self.login, self._digest = name(text(login)), digest.lower()
        return NeedCredentials(self.login, "plain")


def text(response: bytes | None) -> str:
    """A response as UTF-8; ``ValueError`` where it isn't."""
    try:
        return (response or b"").decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def name(login: str) -> str:
    """A login in its prepared form; ``ValueError`` where it can't be one."""
    prepared = prepare(login)
    if not prepared:
        raise ValueError("empty login")
    return prepared


def _over(_: bytes | None) -> Step:
    return Failure("the exchange is over")
