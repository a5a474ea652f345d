"""What a POP3 client asks for that the engine can't answer by itself.

Messages are given by their index in the maildrop, from 0. Each event says how it is answered;
``Pop3ServerEngine.refuse`` answers any of them that is to be answered.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StartTls:
    """STLS (RFC 2595 §4). Answer: ``accept_starttls``, send, then ``start_tls`` once TLS is up."""


@dataclass(frozen=True, slots=True)
class UserPass:
    """USER and PASS (RFC 1939 §7). Answer: ``accept_login``."""

    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Apop:
    """APOP (RFC 1939 §7). Answer: ``accept_login``. ``digest``: as the client sent it."""

    login: str
    digest: str


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 5034 §4). Answer: ``auth_challenge`` or ``accept_login``. ``initial``: decoded, None without one."""

    mechanism: str
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The answer to a challenge, decoded. Answer: as for ``Auth``."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthCancelled:
    """The client gave the exchange up, or sent what isn't base64. Already answered."""


@dataclass(frozen=True, slots=True)
class Retrieve:
    """RETR, or TOP, of one message.

    Answer: ``begin_message``, ``message`` until it wants no more, ``end_message``.
    """

    index: int


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT after a login: remove what is ``deleted`` (RFC 1939 §6). Answer: ``accept_quit``."""

    deleted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OutputWaits:
    """Much is to be sent before more commands are looked at: send it. Not answered."""


Event = StartTls | UserPass | Apop | Auth | AuthResponse | AuthCancelled | Retrieve | Quit | OutputWaits
