"""What access tables and policy services answer: Postfix's access(5) actions, those that decide about a recipient."""

import re

from posthouse.base.errors import Reply
from posthouse.config.restrictions import Restriction, parse_restriction
from posthouse.services.restrictions.decision import (
    PERMIT,
    Decision,
    Verdict,
    defer_if_permit,
    defer_if_reject,
)
from posthouse.services.rewriting.treatment import parse_treatment

_CODE = re.compile(r"([45]\d\d)(?:\s+([45]\.\d{1,3}\.\d{1,3}))?(?:\s+(.*))?", re.DOTALL)
_STATUS = re.compile(r"([45]\.\d{1,3}\.\d{1,3})(?:\s+(.*))?", re.DOTALL)
_HEADER = re.compile(r"[!-9;-~]+:[^\x00\r\n]*")


def parse_action(text: str) -> Decision | Restriction | None:
    """What an action means; a restriction is to be asked in its place, None is DUNNO. Raises ``ValueError``."""
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    upper = word.upper()
    if upper in _SIMPLE and not rest:
        return _SIMPLE[upper]
    # Look-up tables made for pop-before-smtp have numbers for OK.
    if word.isdigit() and len(word) != 3 and not rest:
        return PERMIT
    if match := _CODE.fullmatch(text.strip()):
        code, status, words = match.groups()
        if status and status[0] != code[0]:
            raise ValueError(f"{text!r}: {status} is not of {code}'s class")
        return _refused(int(code), status or f"{code[0]}.7.1", words or "")
    if treatment := parse_treatment(upper, rest):
        return Decision(Verdict.TREAT, text.strip(), treatment=treatment)
    if upper in _WITH_TEXT:
        return _with_text(upper, rest)
    try:
        return parse_restriction(text)
    except ValueError:
        raise ValueError(f"{text!r} is no action") from None


def _with_text(word: str, text: str) -> Decision:
    if word == "WARN":
        return Decision(Verdict.WARN, text or "warned")
    if word == "PREPEND":
        if not _HEADER.fullmatch(text):
            raise ValueError(f"{text!r} is no header field")
        return Decision(Verdict.PREPEND, header=text)
    kind = "5" if word == "REJECT" else "4"
    match = _STATUS.fullmatch(text)
    status, words = (match[1], match[2] or "") if match and match[1][0] == kind else (f"{kind}.7.1", text)
    if word == "DEFER_IF_PERMIT":
        return defer_if_permit(450, status, words or "Please try again later")
    if word == "DEFER_IF_REJECT":
        return defer_if_reject(450, status, words or "Please try again later")
    return _refused(554 if kind == "5" else 450, status, words)


def _refused(code: int, status: str, text: str) -> Decision:
    text = text or ("Access denied" if code >= 500 else "Please try again later")
    return Decision(Verdict.REFUSE, text, Reply(code, status, text))


_SIMPLE: dict[str, Decision | None] = {"OK": PERMIT, "PERMIT": PERMIT, "DUNNO": None}
_WITH_TEXT = frozenset({"REJECT", "DEFER", "DEFER_IF_PERMIT", "DEFER_IF_REJECT", "WARN", "PREPEND"})
