"""The settings of what is changed about mail as it is taken in by SMTP and submission."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What is changed about mail as it is taken in by SMTP and submission (docs/rewriting.md)."""

    sender_canonical: str = ""
    """File of addresses that senders get in place of their own, as in ``anna@isp.example Anna.Smith@isp.example``:
    in the envelope, and in the header of what our own users send."""
    recipient_canonical: str = ""
    """The same for recipients."""
    always_bcc: str = ""
    """Who gets a copy of everything that is taken in."""
    sender_bcc: str = ""
    """File of senders and who gets a copy of what they send."""
    recipient_bcc: str = ""
    """File of recipients and who gets a copy of what they get."""
    header_checks: str = ""
    """File of regular expressions for header fields, and what is done where one matches."""

    @property
    def files(self) -> tuple[str, ...]:
        """The maps that are named."""
        return tuple(
            filter(None, (self.sender_canonical, self.recipient_canonical, self.sender_bcc, self.recipient_bcc))
        )

    @property
    def does_nothing(self) -> bool:
        return not (self.files or self.always_bcc or self.header_checks)


def address(value: str | int) -> str:
    """What is wrong with an address, as checks have it."""
    return "" if re.fullmatch(r"|[^@\s<>]+@[^@\s<>]+", str(value)) else "an address, or empty"
