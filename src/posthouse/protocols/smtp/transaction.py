"""One message for one server: what is asked for, the commands that ask it, and how far it got.

Invariant: no command has a control character in it, nor anything but ASCII unless SMTPUTF8 was agreed.
"""

from collections import deque
from dataclasses import dataclass

from posthouse.base.errors import Reply
from posthouse.message.envelope import Recipient
from posthouse.protocols.smtp import xtext
from posthouse.protocols.smtp.body import OutgoingBody
from posthouse.protocols.smtp.capabilities import Capabilities

REQUIRETLS_NEEDED = Reply(550, "5.7.30", "The server does not promise to protect the message (REQUIRETLS)")
"""RFC 8689 §4.2.1."""
SMTPUTF8_NEEDED = Reply(550, "5.6.7", "The server does not take internationalized mail (SMTPUTF8)")
"""RFC 6531 §3.2."""

_CONTROLS = bytes(range(32)) + b"\x7f"


@dataclass(frozen=True, slots=True)
class TransactionRequest:
    """One message for one server; the fields are those of Envelope. ``size``: in octets, 0 if unknown.

    ``is_probe``: there is no message, only the recipients are asked for. ``is_header_ascii``: nothing in its header
    needs SMTPUTF8, though it came with that.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    size: int = 0
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    is_probe: bool = False
    requiretls: bool = False
    is_header_ascii: bool = False

    def refusal(self, capabilities: Capabilities) -> Reply | None:
        """Why there is no point in asking this server."""
        if 0 < capabilities.max_size_bytes < self.size:
            return Reply(
                552,
                "5.3.4",
                f"Message of {self.size} octets is larger than the server's limit, {capabilities.max_size_bytes}",
            )
        needs_utf8 = not self._are_addresses_ascii or (self.smtputf8 and not self.is_header_ascii)
        if needs_utf8 and "SMTPUTF8" not in capabilities:
            return SMTPUTF8_NEEDED
        if self.requiretls and "REQUIRETLS" not in capabilities:
            return REQUIRETLS_NEEDED
        return None

    @property
    def _are_addresses_ascii(self) -> bool:
        return self.sender.isascii() and all(recipient.address.isascii() for recipient in self.recipients)

    def mail_command(self, capabilities: Capabilities) -> bytes:
        """MAIL, with the parameters that the server knows.

        8-bit content goes to servers without 8BITMIME too, as it is: they are old, but not 7-bit, and any
        conversion (RFC 6152 §3) would break the author's signature.
        """
        line = f"MAIL FROM:<{self.sender}>"
        if self.size and "SIZE" in capabilities:
            line += f" SIZE={self.size}"
        if self.body == "8BITMIME" and "8BITMIME" in capabilities:
            line += " BODY=8BITMIME"
        if "SMTPUTF8" in capabilities and (self.smtputf8 or not self._are_addresses_ascii):
            line += " SMTPUTF8"
        if self.requiretls:
            line += " REQUIRETLS"
        if "DSN" in capabilities:
            line += f" RET={self.ret}" if self.ret else ""
            line += f" ENVID={xtext.encode(self.envid)}" if self.envid else ""
        return _command(line)

    def rcpt_commands(self, capabilities: Capabilities) -> list[bytes]:
        """RCPT for each recipient."""
        dsn = "DSN" in capabilities
        return [_command(_rcpt_line(recipient, dsn=dsn)) for recipient in self.recipients]


class Transaction:
    """One message under way: which recipients are settled, and how."""

    __slots__ = ("accepted", "answered", "body", "flight", "is_flight", "open", "refusal", "replies", "sending")

    def __init__(self, recipients: int, *, is_flight: bool = False) -> None:
        self.replies: list[Reply | None] = [None] * recipients
        self.is_flight = is_flight  # everything goes at once, before any reply
        self.answered = 0  # how many RCPT have their reply
        self.accepted: deque[int] = deque()  # indices of recipients that wait for the end of the message
        self.refusal: Reply | None = None  # of all that are not settled
        self.open = False  # the server accepted MAIL and has not seen an end
        self.body: OutgoingBody | None = None
        self.flight: list[bytes] = []  # the content of a flight, as far as it has come
        self.sending = False  # the driver may hand in the body

    def outcome(self, otherwise: Reply) -> tuple[Reply, ...]:
        """A reply for each recipient."""
        return tuple([reply or self.refusal or otherwise for reply in self.replies])


def _rcpt_line(recipient: Recipient, *, dsn: bool) -> str:
    line = f"RCPT TO:<{recipient.address}>"
    if dsn and recipient.notify:
        line += f" NOTIFY={','.join(sorted(recipient.notify))}"
    if dsn and recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        encode = xtext.encode_utf8 if kind.lower() == "utf-8" else xtext.encode
        line += f" ORCPT={kind};{encode(address)}"
    return line


def _command(line: str) -> bytes:
    octets = line.encode()
    if octets != octets.translate(None, _CONTROLS):
        raise ValueError(f"control character in {line!r}")
    return octets + b"\r\n"
