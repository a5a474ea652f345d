"""What the server's engine tells its driver. ``id`` is the client's name for a request, which answers go to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Auth:
    """A login begins.

    ``service`` is for whom (``smtp``, ``imap``…), ``remote_ip`` is whose, as the client wrote it, empty where it
    didn't say; ``secured``: that one's connection is TLS. ``initial``: the first response, or None without one.
    """

    id: int
    mechanism: str
    service: str
    remote_ip: str
    secured: bool
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class Continue:
    """The response to a challenge."""

    id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cancel:
    """A login is over without a result: its client has gone, broke off, or was silent for too long.

    It needs no answer, and there may be no such login.
    """

    id: int


Event = Auth | Continue | Cancel
