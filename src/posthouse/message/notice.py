"""The part of a delivery report that people read: what happened, to which address, what the other server said, what
to do about it. Short, since few read on.
"""

import textwrap

from posthouse.message.headers import printable
from posthouse.message.report import Action, RecipientStatus, Report

_OPENINGS: dict[Action, str] = {
    "failed": "We are sorry: your message could not be delivered to everyone. What follows says to whom, and why.",
    "delayed": "Your message could not be delivered yet. You need not send it again: we keep trying.",
    "relayed": "Your message was passed on, to a system that may not tell you what becomes of it.",
    "expanded": "Your message was delivered to a mailing list or a group.",
    "delivered": "Your message was delivered, as you asked to be told.",
}

# The longest prefix of the enhanced status that is here counts (RFC 3463 §3). Failures only.
_ADVICE = {
    "": "If this goes on, ask the postmaster of the recipient's domain, and show this report.",
    "1": "Please check the address for typing errors, then try again.",
    "1.2": "Please check what follows the @ sign: no mail goes to that domain.",
    "1.6": "The recipient has moved. Please find out the new address.",
    "1.10": "That domain takes no mail at all. Please find out another address.",
    "2.1": "The mailbox is closed for now. Please try another way to reach the recipient.",
    "2.2": "The recipient's mailbox is full. Please try again later, or reach the recipient another way.",
    "2.3": "Your message is too large for the recipient. Please send less, or a link.",
    "3.4": "Your message is too large for the recipient's server. Please send less, or a link.",
    "4": "The recipient's server could not be reached. Please check the address, or try again later.",
    "4.6": "The message went round in circles. Please tell the postmaster of the recipient's domain.",
    "5": "The two servers did not understand each other. Please tell your own postmaster, and show this report.",
    "6": "The recipient's server can't take a message of this form. Please send it another way.",
    "7": "The recipient's server does not want this message. What it said may tell why; if not, ask its postmaster.",
}


def notice(report: Report) -> str:
    """The text, with CRLF line ends, of lines that fit a terminal."""
    paragraphs = [
        _wrap(f"This is the mail system at {report.hostname}.", ""),
        _wrap(_OPENINGS[report.subject_action], ""),
        *(_paragraph(recipient, report.subject_action) for recipient in report.recipients),
        _wrap(f"Questions go to postmaster@{report.hostname}; please include this report.", ""),
    ]
    return "\r\n\r\n".join(paragraphs) + "\r\n"


def _paragraph(recipient: RecipientStatus, subject: Action) -> str:
    lines = [f"<{printable(recipient.final, utf8=True)}>"]
    original = recipient.original.partition(";")[2]
    if original and original != recipient.final:
        lines.append(_wrap(f"You wrote to <{printable(original, utf8=True)}>."))
    if recipient.action != subject or recipient.action == "relayed":
        lines.append(_wrap(f"This one was {recipient.action}."))
    lines += _reason(recipient)
    if recipient.action == "failed":
        lines.append(_wrap(_advice(recipient.status)))
    if recipient.retry_until and recipient.action == "delayed":
        until = f"{recipient.retry_until:%Y-%m-%d %H:%M %Z}".rstrip()
        lines.append(_wrap(f"We try until {until}, and tell you if we have to give up."))
    return "\r\n".join(lines)


def _reason(recipient: RecipientStatus) -> list[str]:
    """What the other server said, in its own words and lines, or what we found ourselves."""
    said = [printable(line.strip()) for line in recipient.diagnostic[:2000].splitlines() if line.strip()]
    if not said:
        return []
    if not recipient.remote_mta:
        return [_wrap(" ".join(said))]
    return [_wrap(f"{printable(recipient.remote_mta)} said:"), *(_wrap(line, " " * 6) for line in said)]


def _advice(status: str) -> str:
    subject = status.partition(".")[2]
    return _ADVICE.get(subject) or _ADVICE.get(subject.partition(".")[0]) or _ADVICE[""]


def _wrap(text: str, indent: str = "    ") -> str:
    return "\r\n".join(textwrap.wrap(text, 76, initial_indent=indent, subsequent_indent=indent))
