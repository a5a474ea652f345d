"""A message from this host to whoever runs it: a few paragraphs of text.

Invariants:
  1. What users called themselves stays in its place: neither line ends nor other control characters come through.
  2. The same input gives the same octets: time and Message-ID are passed in.
"""

import textwrap
from collections.abc import Iterable
from datetime import datetime

from posthouse.message.dates import format_date
from posthouse.message.headers import fold, printable


def build_warning(
    *, hostname: str, to: str, subject: str, paragraphs: Iterable[str], message_id: str, date: datetime
) -> bytes:
    """The whole message, with CRLF line ends. It needs 8BITMIME where it is not ASCII."""
    texts = [f"This is the mail system at {hostname}.", *paragraphs]
    body = "\r\n\r\n".join("\r\n".join(textwrap.wrap(printable(text, utf8=True), 76)) for text in texts) + "\r\n"
    charset, encoding = ("us-ascii", "7bit") if body.isascii() else ("utf-8", "8bit")
    lines = [
        f"From: Mail System <MAILER-DAEMON@{hostname}>\r\n",
        f"To: <{printable(to, utf8=True)}>\r\n",
        fold("Subject", printable(subject).split()),
        f"Date: {format_date(date)}\r\n",
        f"Message-ID: {printable(message_id)}\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "MIME-Version: 1.0\r\n",
        f"Content-Type: text/plain; charset={charset}\r\n",
        f"Content-Transfer-Encoding: {encoding}\r\n",
    ]
    return ("".join(lines) + "\r\n" + body).encode()
