"""What a server's mechanism answers to each response of the client."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send ``data`` to the client; its response goes to ``step``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NeedCredentials:
    """Look ``login`` up and call ``credentials``, with ``None`` where there is no such account.

    ``kind``: which of them the mechanism works with. ``authzid``: whom the client wants to act for; empty: itself.
    """

    login: str
    kind: Literal["plain", "scram"]
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class NeedVerify:
    """Check the password and call ``verified``. ``authzid`` as in ``NeedCredentials``."""

    login: str
    password: str = field(repr=False)
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class Success:
    """The client is who it says: ``login``, as it was given."""

    login: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The end. ``reason`` is for the log; the client hears no more than that it failed."""

    reason: str


Step = Challenge | NeedCredentials | NeedVerify | Success | Failure
