"""The face that all mechanisms of the server's side have, and what they share.

Invariants:
  1. Whatever the client sends, the answer is a Step, never an exception; after Success or Failure only Failure.
  2. An account that does not exist goes the same way as one with another password, up to the same Failure.
  3. Secrets are compared in constant time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from posthouse.protocols.sasl.credentials import Credentials
from posthouse.protocols.sasl.prepare import prepare
from posthouse.protocols.sasl.steps import Failure, Step, Success

WRONG = Failure("wrong login or password")
MAX_NAME_BYTES = 512
"""Longest login that is prepared; RFC 4616 §2 has 255 octets taken. Preparing takes 2 µs a character, and some become
eighteen."""


class ServerMechanism(ABC):
    """One authentication exchange.

    ``step`` takes the client's response, decoded from base64; first the initial response, or None without one.
    ``credentials``, ``verified`` and ``verified_as`` answer the steps that ask for them, and nothing else does.
    ``login`` is who the client says it is, empty before it has said so.
    """

    max_response_bytes: ClassVar[int] = 4096
    """Longest response that is looked at, decoded. RFC 4616 §2 allows 255 characters for each of its three parts."""
    name = ""
    """The mechanism's, where whoever made it has said so."""

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


def timestamp(nonce: bytes, hostname: str) -> bytes:
    """A challenge of CRAM or APOP, in the form of a message id (RFC 2195 §2, RFC 1939 §7)."""
    return b"<%s@%s>" % (nonce.hex().encode(), hostname.encode("ascii", "replace"))


def text(response: bytes | None) -> str:
    """A response as UTF-8; ``ValueError`` where it isn't."""
    try:
        return (response or b"").decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def name(login: str) -> str:
    """A login in its prepared form; ``ValueError`` where it can't be one."""
    prepared = prepared_name(login)
    if not prepared:
        raise ValueError("empty login")
    return prepared


def prepared_name(login: str) -> str:
    """The same where it may be empty: whom to act for."""
    if len(login.encode()) > MAX_NAME_BYTES:
        raise ValueError("login too long")
    return prepare(login)


def over(_: bytes | None) -> Step:
    """Takes the responses that come after the end."""
    return Failure("the exchange is over")
