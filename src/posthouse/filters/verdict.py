"""What filters say of a message, and what comes of it for one recipient. Pure.

Invariants:
  1. Of several actions the stronger counts, and every reason is kept, also of those that did not count.
  2. What a policy says of a kind of finding counts in place of what the filter wanted; so the narrower policy can let
     through what a filter would refuse, and refuse what a filter would let through.
  3. Nobody is refused for a failure of ours: a filter that did not answer is at most ``DEFER``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from posthouse.base.errors import Reply
from posthouse.filters.changes import Change
from posthouse.filters.policy import Policy

UNCHECKED_FIELD = "X-Posthouse-Unchecked"
"""Stands in front of what a filter has not looked at, and says why."""


class Action(IntEnum):
    """What becomes of a message, the stronger the greater.

    ``REJECT`` is stronger than ``DISCARD``, since its sender hears of it, and both than ``DEFER``: what is known to
    be bad need not wait for who did not answer.
    """

    ACCEPT = 0
    TAG = 1
    """It is delivered with fields that say what was found."""
    JUNK = 2
    """It is delivered into Junk."""
    HOLD = 3
    """It waits in the queue until the operator lets it go."""
    QUARANTINE = 4
    """It is taken, and kept where no recipient sees it."""
    DEFER = 5
    DISCARD = 6
    """It is taken and thrown away."""
    REJECT = 7

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: ``kind`` is one of ``policy.KINDS``, ``name`` says which (a virus, a file's name),
    ``part`` where in the message, where that is known."""

    kind: str
    name: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" in {self.part}" if self.part else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one filter says.

    ``action`` is what it wants, ``findings`` what that is for: where a policy says what becomes of their kinds, that
    counts. ``reasons`` are in plain words, for log and operator. ``headers`` (name, value) go in front of the message
    whatever comes of it; ``changes`` are made in their order before anything is delivered. ``score`` adds up with
    that of other filters. ``reply``: what a client is to hear that is refused or put off.
    """

    filter: str
    action: Action = Action.ACCEPT
    score: float = 0.0
    reasons: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    reply: Reply | None = None
    has_failed: bool = False
    """It did not answer: the action is what the configuration has for that."""

    @property
    def viruses(self) -> tuple[str, ...]:
        """The names of the viruses that were found."""
        return tuple(finding.name for finding in self.findings if finding.kind == "virus")


def unscanned(name: str, why: str) -> Verdict:
    """What a filter says of what it can't look at, however often it is asked."""
    headers = ((UNCHECKED_FIELD, f"{name}: {why}"),)
    return Verdict(name, Action.TAG, findings=(Finding("unscanned", f"({why})"),), headers=headers)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a message for one recipient, and why: a line for each reason, with the filter's name."""

    action: Action
    score: float
    reasons: tuple[str, ...]
    reply: Reply | None = None


def combine(verdicts: Sequence[Verdict], policy: Policy) -> Outcome:
    """What the filters' verdicts come to under the policy of one recipient."""
    action, reply = Action.ACCEPT, None
    reasons: list[str] = []
    for verdict in verdicts:
        its_action, its_reasons = _judged(verdict, policy)
        reasons += [f"{verdict.filter}: {reason}" for reason in its_reasons]
        if its_action > action:
            action, reply = its_action, verdict.reply or _reply(verdict, its_action)
    score = sum(verdict.score for verdict in verdicts)
    by_score, reason = _by_score(score, policy)
    if reason:
        reasons.append(reason)
    if by_score > action:
        action, reply = by_score, Reply(550, "5.7.1", "Message refused: it looks like spam")
    return Outcome(action, score, tuple(reasons), reply if action in (Action.DEFER, Action.REJECT) else None)


def agreed(verdicts: Sequence[Verdict], scanners: frozenset[str], *, all_must: bool) -> tuple[Verdict, ...]:
    """The verdicts, those of virus scanners weighed against each other.

    One that did not answer doesn't count where another one did. With ``all_must`` a virus is one only where each
    that answered has found one.
    """
    answered = [one for one in verdicts if one.filter in scanners and not one.has_failed]
    is_doubted = all_must and not all(one.viruses for one in answered)
    return tuple(_weighed(one, scanners, bool(answered), is_doubted) for one in verdicts)


def _weighed(verdict: Verdict, scanners: frozenset[str], is_stood_in: bool, is_doubted: bool) -> Verdict:
    name, reasons = verdict.filter, verdict.reasons
    if name not in scanners:
        return verdict
    if verdict.has_failed and is_stood_in:
        return Verdict(name, reasons=(*reasons, "another scanner has answered"), has_failed=True)
    if verdict.viruses and is_doubted:
        return Verdict(name, Action.TAG, reasons=(*reasons, "not every scanner agrees"), headers=verdict.headers)
    return verdict


def _judged(verdict: Verdict, policy: Policy) -> tuple[Action, list[str]]:
    """What one verdict comes to, and why."""
    kinds = dict.fromkeys(finding.kind for finding in verdict.findings)
    ruled = {kind: rule for kind in kinds if (rule := policy.rule(kind)) is not None}
    reasons = list(verdict.reasons)
    for kind, rule in ruled.items():
        found = ", ".join(str(finding) for finding in verdict.findings if finding.kind == kind)
        reasons.append(f"{found}: {rule.value} ({rule.scope})")
    # What a policy is silent on, and what has nothing to do with findings, is as the filter wants it.
    wanted = verdict.action if len(ruled) < len(kinds) or not kinds else Action.ACCEPT
    return max([wanted, *(Action[rule.value.upper()] for rule in ruled.values())]), reasons


def _by_score(score: float, policy: Policy) -> tuple[Action, str]:
    for action in (Action.REJECT, Action.QUARANTINE, Action.JUNK, Action.TAG):
        rule = policy.rule(f"{action.word}_score")
        if rule is not None and rule.value != "off" and score >= float(rule.value):
            return action, f"score {score:g} is {rule.value} or more: {action.word} ({rule.scope})"
    return Action.ACCEPT, ""


def _reply(verdict: Verdict, action: Action) -> Reply:
    if action == Action.REJECT:
        found = " and ".join(dict.fromkeys(str(finding) for finding in verdict.findings)) or "by a content filter"
        text = "".join(one if one.isascii() and one.isprintable() else "?" for one in found[:200])
        return Reply(550, "5.7.1", f"Message refused: {text}")
    return Reply(451, "4.7.1", "The message could not be checked at the moment, please try again later")
