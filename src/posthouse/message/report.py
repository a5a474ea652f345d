"""What a delivery status notification tells: plain data, that ``dsn`` writes and ``notice`` puts into words."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]

_WORST_FIRST: tuple[Action, ...] = ("failed", "delayed", "relayed", "expanded", "delivered")


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What became of one recipient.

    ``final``: the address it was tried for. ``original``: the ORCPT parameter decoded, ``rfc822;user@domain``, or
    empty. ``status``: ``class.subject.detail`` (RFC 3463). ``remote_mta``: the host that was asked, or empty where
    none was reached. ``diagnostic``: its reply with its code, or our own words where there is no ``remote_mta``.
    """

    final: str
    action: Action
    status: str
    original: str = ""
    remote_mta: str = ""
    diagnostic: str = ""
    last_attempt: datetime | None = None
    retry_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A notification to the envelope sender ``sender``. ``envid`` is decoded; ``message_id`` has its brackets.

    ``smtputf8``: the message came with SMTPUTF8, so its sender's system understands RFC 6533.
    """

    hostname: str
    sender: str
    recipients: tuple[RecipientStatus, ...]
    message_id: str
    date: datetime
    arrival: datetime | None = None
    envid: str = ""
    ret: str = ""
    smtputf8: bool = False

    @property
    def subject_action(self) -> Action:
        """What the report as a whole is about."""
        return min((recipient.action for recipient in self.recipients), key=_badness)


def _badness(action: Action) -> int:
    return _WORST_FIRST.index(action)
