"""Delivery status notifications: failures, delays and successes told to the sender (RFC 3461 §6, RFC 3464, RFC 6522).

Invariants:
  1. What comes from a peer stays in its place: neither line ends nor other control characters come through.
  2. Only a failure returns the whole message, and only one that is small enough and whose sender did not ask for the
     headers alone (RFC 3461 §4.3).
  3. The same input gives the same octets: time and Message-ID are passed in.
"""

from collections.abc import Iterator
from hashlib import blake2s

from posthouse.message.dates import format_date
from posthouse.message.headers import fold, header_end, printable
from posthouse.message.notice import notice
from posthouse.message.report import Action, RecipientStatus, Report

LONGEST_DIAGNOSTIC = 2000
"""Characters of what a server said that are reported."""


def build_report(report: Report, original: bytes, *, max_original_bytes: int = 65_536) -> bytes:
    """The whole message that tells the sender, with CRLF line ends; for the null reverse-path.

    ``original``: the message, or of one larger than ``max_original_bytes`` at least that much and one octet. The
    result has 8-bit octets where the original has; then it needs 8BITMIME.
    """
    parts = [_text_part(report), _status_part(report), _original_part(report, original, max_original_bytes)]
    boundary = _boundary(report.message_id, parts)
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return _header(report, boundary.decode(), ascii_only=body.isascii()) + body + b"--%b--\r\n" % boundary


_SUBJECTS: dict[Action, str] = {
    "failed": "Your message could not be delivered",
    "delayed": "Your message is delayed, we keep trying",
    "relayed": "Your message was passed on",
    "expanded": "Your message was delivered to a list",
    "delivered": "Your message was delivered",
}


def _header(report: Report, boundary: str, *, ascii_only: bool) -> bytes:
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>",
        f"To: <{printable(report.sender, utf8=True)}>",
        f"Subject: {_SUBJECTS[report.subject_action]}",
        f"Date: {format_date(report.date)}",
        f"Message-ID: {printable(report.message_id)}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
        *([] if ascii_only else ["Content-Transfer-Encoding: 8bit"]),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _boundary(message_id: str, parts: list[bytes]) -> bytes:
    """A boundary that no part contains."""
    number = 0
    while True:
        boundary = b"=_" + blake2s(f"{number}{message_id}".encode(), digest_size=15).hexdigest().encode()
        if not any(boundary in part for part in parts):
            return boundary
        number += 1


def _part(media_type: str, description: str, content: bytes) -> bytes:
    encoding = "7bit" if content.isascii() else "8bit"
    header = f"Content-Type: {media_type}\r\nContent-Description: {description}\r\n"
    return f"{header}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + content


def _text_part(report: Report) -> bytes:
    content = notice(report).encode()
    charset = "us-ascii" if content.isascii() else "utf-8"
    return _part(f"text/plain; charset={charset}", "Notification", content)


def _original_part(report: Report, original: bytes, max_original_bytes: int) -> bytes:
    failed = report.subject_action == "failed"
    if failed and report.ret.upper() != "HDRS" and len(original) <= max_original_bytes:
        return _part("message/global" if report.smtputf8 else "message/rfc822", "Your message", original)
    header = original[: header_end(original)]
    if len(header) > max_original_bytes:
        header = header[: header.rfind(b"\n", 0, max_original_bytes) + 1]
    media_type = "message/global-headers" if report.smtputf8 else "text/rfc822-headers"
    return _part(media_type, "Headers of your message", header.removesuffix(b"\r\n"))


def _status_part(report: Report) -> bytes:
    """RFC 3464 §2: a block of fields for the message, then one for each recipient."""
    blocks = [_message_fields(report), *(_recipient_fields(each, report.smtputf8) for each in report.recipients)]
    text = "\r\n".join("".join(_field(name, value, report.smtputf8) for name, value in block) for block in blocks)
    kind = "global-delivery-status" if report.smtputf8 else "delivery-status"
    return _part(f"message/{kind}", "Delivery report", text.encode())


def _message_fields(report: Report) -> Iterator[tuple[str, str]]:
    if report.envid:  # decoded, RFC 3461 §6.3 (a)
        yield "Original-Envelope-Id", report.envid
    yield "Reporting-MTA", f"dns; {report.hostname}"
    if report.arrival:
        yield "Arrival-Date", format_date(report.arrival)


def _recipient_fields(recipient: RecipientStatus, utf8: bool) -> Iterator[tuple[str, str]]:
    if recipient.original:
        kind, _, address = recipient.original.partition(";")
        yield "Original-Recipient", f"{kind.strip()}; {_unitext(address.strip(), utf8)}"
    kind = "rfc822" if recipient.final.isascii() else "utf-8"
    yield "Final-Recipient", f"{kind}; {_unitext(recipient.final, utf8)}"
    yield "Action", recipient.action
    yield "Status", recipient.status
    if recipient.remote_mta:
        yield "Remote-MTA", f"dns; {recipient.remote_mta}"
    if recipient.diagnostic:
        kind = "smtp" if recipient.remote_mta else "X-Posthouse"
        yield "Diagnostic-Code", f"{kind}; {recipient.diagnostic[:LONGEST_DIAGNOSTIC]}"
    if recipient.last_attempt:
        yield "Last-Attempt-Date", format_date(recipient.last_attempt)
    if recipient.retry_until:
        yield "Will-Retry-Until", format_date(recipient.retry_until)


def _unitext(address: str, utf8: bool) -> str:
    """An address as it is, or in ASCII as RFC 6533 §3 writes it (utf-8-addr-xtext)."""
    if utf8 or address.isascii():
        return address
    return "".join(each if each.isascii() else f"\\x{{{ord(each):X}}}" for each in address)


def _field(name: str, value: str, utf8: bool) -> str:
    return fold(name, printable(" ".join(value.split()), utf8=utf8).split())
