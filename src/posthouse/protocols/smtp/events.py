"""What an SMTP or LMTP client wants from us, as the server engine tells it.

Each says whether the driver must answer. Addresses are ``local@domain`` without angle brackets, as the client
wrote them; the empty path is the null reverse-path; ``postmaster`` alone is a valid recipient
(RFC 5321 §4.1.1.3).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO, HELO or LHLO (``verb``). Answer: ``accept_hello()`` or ``reply()``."""

    name: str
    verb: str


@dataclass(frozen=True, slots=True)
class XClient:
    """XCLIENT: who a trusted proxy's client is. Answer: ``accept_xclient()``.

    ``address`` and ``helo``: empty where they stay as they are; ``name`` and ``login`` are None there, and empty for
    none.
    """

    address: str
    name: str | None
    helo: str
    login: str | None


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS. Answer: ``accept_starttls()``, send, negotiate, ``start_tls()``; or ``reply()``."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH, the initial response decoded; None if there was none, which is not the same as an empty one.

    Answer: ``auth_challenge()``, ``auth_success()`` or ``auth_failure()``.
    """

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The response to the last challenge, decoded. Answered like Auth."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AuthCancelled:
    """The client gave up the exchange, or its response was no base64; it has its answer already."""


@dataclass(frozen=True, slots=True)
class MailFrom:
    """MAIL. Answer: ``reply()``.

    ``size``: octets announced, 0 if none. ``body``: ``7BIT`` or ``8BITMIME`` (RFC 6152). ``ret``: ``FULL``,
    ``HDRS`` or empty; ``envid`` decoded (RFC 3461 §4.3, §4.4). ``auth``: who submitted it first, decoded;
    ``<>`` or empty if unknown (RFC 4954 §5), and no more than a claim. ``requiretls``: RFC 8689.
    """

    path: str
    size: int = 0
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: str = ""
    requiretls: bool = False


@dataclass(frozen=True, slots=True)
class RcptTo:
    """RCPT. Answer: ``reply()``.

    ``notify``: of ``NEVER``, ``SUCCESS``, ``FAILURE``, ``DELAY``, empty if not given. ``orcpt``: decoded, with
    its type, ``rfc822;user@domain``, or empty (RFC 3461 §4.1, §4.2).
    """

    path: str
    notify: frozenset[str] = frozenset()
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class DataStart:
    """DATA, or the first BDAT. Answer: ``accept_data()``, or ``reply()``, which drops the transaction."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next octets of the message, free of dot-stuffing. No answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """The message is complete. Answer: ``reply()``; in LMTP once for each accepted recipient, in order."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The transaction is over and what there is of the message is void. No answer.

    After RSET or a new EHLO, and as soon as a message turns out to be too large or malformed.
    """


@dataclass(frozen=True, slots=True)
class Quit:
    """The session is over: send what is to be sent, then close. No answer; comes again whenever asked.

    ``reason`` is for the log. A message that had no MessageEnd is void.
    """

    reason: str


Event = (
    Hello
    | XClient
    | StartTls
    | Auth
    | AuthResponse
    | AuthCancelled
    | MailFrom
    | RcptTo
    | DataStart
    | Chunk
    | MessageEnd
    | Reset
    | Quit
)
