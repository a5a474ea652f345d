"""What a server's mechanism answers to each response of the client."""

from dataclasses import dataclass, field
from typing import Literal

CredentialKind = Literal["plain", "cram-md5", "scram-sha-1", "scram-sha-256"]


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send ``data`` to the client; its response goes to ``step``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NeedCredentials:
    """Look ``login`` up and call ``credentials``, with ``None`` where there is no such account.

    ``kind``: which of them the mechanism works with; ``cram-md5`` is ``plain`` or the stored context.
    ``authzid``: whom the client wants to act for; empty: itself.
    """

    login: str
    kind: CredentialKind
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class NeedVerify:
    """Check the password and call ``verified``. ``authzid`` as in ``NeedCredentials``."""

    login: str
    password: str = field(repr=False)
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class NeedToken:
    """Check an access token and call ``verified``, or ``verified_as`` with the account that it is for.

    ``login``: the account that the client names; it may be empty, and then only ``verified_as`` can say yes.
    """

    login: str
    token: str = field(repr=False)
    mechanism: Literal["OAUTHBEARER", "XOAUTH2"]


@dataclass(frozen=True, slots=True)
class NeedAccount:
    """The client has proved that it is ``login``: call ``verified`` with whether that account may log in.

    ``authzid``: as the client gave it, and the same as ``login`` if not empty.
    """

    login: str
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class Success:
    """The client is who it says: ``login``, as it was given."""

    login: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The end. ``reason`` is for the log; the client hears no more than that it failed."""

    reason: str


Step = Challenge | NeedCredentials | NeedVerify | NeedToken | NeedAccount | Success | Failure
