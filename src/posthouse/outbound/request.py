"""What is asked of a server for a queued message."""

from collections.abc import Sequence

from posthouse.base.errors import TryLater
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.envelope import Recipient
from posthouse.message.headers import header_end
from posthouse.protocols.smtp.transaction import TransactionRequest

HEADER_LIMIT = 256 * 1024
"""What is read of a header to see whether it is ASCII; a longer one is not taken for that."""


def make_request(
    message: QueuedMessage, recipients: Sequence[Recipient], *, lacks_utf8: bool, is_lmtp: bool
) -> TransactionRequest:
    """The message as its envelope has it. ``lacks_utf8``: the server knows no SMTPUTF8; then what only came with
    it, and needs nothing of it, may go without. Raises ``TryLater`` when the message can't be read.
    """
    envelope = message.envelope
    return TransactionRequest(
        sender=envelope.sender,
        recipients=tuple(recipients),
        size=message.size_bytes,
        body=envelope.body,
        smtputf8=envelope.smtputf8,
        ret=envelope.ret,
        envid=envelope.envid,
        # RFC 8689 is about SMTP: LMTP is how mail is delivered here.
        requiretls=envelope.tls == "REQUIRED" and not is_lmtp,
        is_header_ascii=envelope.smtputf8 and lacks_utf8 and _is_header_ascii(message),
    )


def _is_header_ascii(message: QueuedMessage) -> bool:
    """Octets beyond ASCII in the body are 8BITMIME's affair."""
    try:
        with message.open() as file:
            beginning = file.read(HEADER_LIMIT)
    except OSError as failure:
        raise TryLater(f"{message.path}: {failure}") from failure
    header = beginning[: header_end(beginning)]
    return header.isascii() and (len(header) < len(beginning) or len(beginning) == message.size_bytes)
