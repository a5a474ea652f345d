"""The server's side of PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), and the face that all mechanisms
have; the others have files of their own.

Invariants:
  1. Whatever the client sends, the answer is a Step, never an exception; after Success or Failure only Failure.
  2. An account that does not exist goes the same way as one with another password, up to the same Failure.
  3. Secrets are compared in constant time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import ClassVar

from posthouse.protocols.sasl.credentials import Credentials, encode_base64
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.prepare import prepare
from posthouse.protocols.sasl.steps import (
    Challenge,
    Failure,
    NeedVerify,
    Step,
    Success,
)

MECHANISMS = (
    "EXTERNAL",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "OAUTHBEARER",
    "XOAUTH2",
    "CRAM-SHA1",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)
"""Strongest first; the order in which they are offered."""
WRONG = Failure("wrong login or password")


def mechanism(
    name: str, *, nonce: bytes, secret: bytes, hostname: str, peer: Peer, offered: Collection[str] = ()
) -> "ServerMechanism | None":
    """The mechanism of that name (any case), or None where there is none, or none that this peer can use.

    ``nonce``: 16 or more random bytes, new for each call. ``secret``: random bytes that stay, from which salts
    for unknown accounts are derived. ``hostname``: this server's, for the challenges of CRAM. ``offered``: what the
    peer was offered, so that SCRAM knows when it has been told otherwise.
    """
    name = name.upper()
    match name:
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case "CRAM-MD5" | "CRAM-SHA1":
            from posthouse.protocols.sasl.cram import CramMd5, CramSha1

            return (CramMd5 if name == "CRAM-MD5" else CramSha1)(timestamp(nonce, hostname))
        case "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS" | "SCRAM-SHA-1" | "SCRAM-SHA-1-PLUS":
            return _scram(name, nonce, secret, peer, offered)
        case "OAUTHBEARER" | "XOAUTH2":
            from posthouse.protocols.sasl.oauth import OAuthBearer, XOAuth2

            return OAuthBearer() if name == "OAUTHBEARER" else XOAuth2()
        case "EXTERNAL" if peer.certificate_emails:
            from posthouse.protocols.sasl.external import External

            return External(peer.certificate_emails)
        case _:
            return None


def timestamp(nonce: bytes, hostname: str) -> bytes:
    """A challenge of CRAM or APOP, in the form of a message id (RFC 2195 §2, RFC 1939 §7)."""
    return b"<%s@%s>" % (nonce.hex().encode(), hostname.encode("ascii", "replace"))


def _scram(name: str, nonce: bytes, secret: bytes, peer: Peer, offered: Collection[str]) -> "ServerMechanism | None":
    from posthouse.protocols.sasl.scram import Scram

    plain_name = name.removesuffix("-PLUS")
    algorithm = "sha1" if plain_name == "SCRAM-SHA-1" else "sha256"
    if plain_name == name:
        return Scram(encode_base64(nonce), secret, algorithm, offers_plus=f"{name}-PLUS" in offered)
    if not peer.channel_bindings:
        return None
    return Scram(encode_base64(nonce), secret, algorithm, peer.channel_bindings)


class ServerMechanism(ABC):
    """One authentication exchange.

    ``step`` takes the client's response, decoded from base64; first the initial response, or None without one.
    ``credentials``, ``verified`` and ``verified_as`` answer the steps that ask for them, and nothing else does.
    ``login`` is who the client says it is, empty before it has said so.
    """

    max_response_bytes: ClassVar[int] = 4096
    """Longest response that is looked at, decoded. RFC 4616 §2 allows 255 characters for each of its three parts."""

    def __init__(self) -> None:
        self.login = ""
        self._respond: Callable[[bytes | None], Step] = self._start

    def step(self, response: bytes | None) -> Step:
        """What follows from the client's response."""
        if response is not None and len(response) > self.max_response_bytes:
            return self._end(Failure("response too long"))
        try:
            return self._respond(response)
        except ValueError as error:
            return self._end(Failure(f"malformed response: {error}"))

    def credentials(self, known: Credentials | None) -> Step:  # noqa: ARG002
        """Answers NeedCredentials."""
        raise RuntimeError("no credentials were asked for")

    def verified(self, is_right: bool) -> Step:  # noqa: ARG002
        """Answers NeedVerify, NeedToken and NeedAccount."""
        raise RuntimeError("nothing was to be verified")

    def verified_as(self, account: str | None) -> Step:  # noqa: ARG002
        """Answers NeedToken: the account's address, or None where the token is not good."""
        raise RuntimeError("no token was to be verified")

    @abstractmethod
    def _start(self, response: bytes | None) -> Step:
        """What follows from the initial response."""

    def _end(self, outcome: Success | Failure) -> Step:
        self._respond = over
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
        self._respond = over
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


def over(_: bytes | None) -> Step:
    """Takes the responses that come after the end."""
    return Failure("the exchange is over")
