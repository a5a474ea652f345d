"""What a restriction says, and what comes of a list of them."""

from dataclasses import dataclass
from enum import Enum

from posthouse.base.errors import Reply
from posthouse.services.rewriting.treatment import NOTHING, Treatment


class Verdict(Enum):
    """What a restriction wants. One that says nothing (Postfix's DUNNO) gives no decision at all."""

    PERMIT = "permit"
    REFUSE = "refuse"
    """For good or, by a 4xx, for now."""
    DEFER_IF_PERMIT = "defer if permitted"
    DEFER_IF_REJECT = "defer if refused"
    WARN = "warn"
    PREPEND = "prepend"
    TREAT = "treat"
    """Take it in, and do something with the whole message."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``reply`` for the client where it is refused or deferred; ``reason`` for the log; ``header`` to put in."""

    verdict: Verdict
    reason: str = ""
    reply: Reply | None = None
    header: str = ""
    treatment: Treatment = NOTHING


PERMIT = Decision(Verdict.PERMIT)


def refuse(code: int, status: str, text: str, reason: str = "") -> Decision:
    """Refuse with that reply."""
    return Decision(Verdict.REFUSE, reason or text, Reply(code, status, text))


def defer_if_permit(code: int, status: str, text: str, reason: str = "") -> Decision:
    """Something could not be found out: what would be permitted otherwise has to come again."""
    return Decision(Verdict.DEFER_IF_PERMIT, reason or text, Reply(code, status, text))


def defer_if_reject(code: int, status: str, text: str, reason: str = "") -> Decision:
    """Something that might have permitted it could not be found out."""
    return Decision(Verdict.DEFER_IF_REJECT, reason or text, Reply(code, status, text))


@dataclass(frozen=True, slots=True)
class Step:
    """One restriction as it was gone through: the list it stands in, itself, and what it said."""

    stage: str
    restriction: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: ``reply`` is None for those who are let in; ``word``: which restriction it was."""

    reply: Reply | None = None
    reason: str = ""
    headers: tuple[str, ...] = ()
    treatment: Treatment = NOTHING
    word: str = ""
