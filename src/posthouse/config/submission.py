"""The settings of what our own users send."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be sent in an hour and in a day that begin with the first message. ``[submission.account]`` is for
    each login, ``[submission.domain]`` for all logins of a domain together; ``posthouse account limits`` and
    ``posthouse domain limits`` set others. 0: no limit."""

    messages_per_hour: int = 0
    """Most messages in an hour."""
    messages_per_day: int = 0
    """Most messages in a day."""
    recipients_per_hour: int = 0
    """Most recipients in an hour, each counted in each message."""
    recipients_per_day: int = 0
    """Most recipients in a day."""
    bytes_per_hour: int = 0
    """Most octets in an hour."""
    bytes_per_day: int = 0
    """Most octets in a day."""
    new_recipients_per_hour: int = 0
    """Most addresses in an hour that the login has not written to before, since this was first limited."""
    new_recipients_per_day: int = 0
    """Most such addresses in a day."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What our own users send, on any port where they have logged in (docs/submission.md)."""

    hide_client: bool = False
    """Whether the client's address and name are left out of Received."""
    over_limit: str = "refuse"
    """What becomes of mail beyond a limit: ``refuse``: the client hears that it may try again later; ``hold``: it is
    kept in the queue until an operator lets it go, up to ten times the limit."""
    tell: str = "postmaster"
    """Who hears, once a day for each login and domain, that a limit is reached: a name at ``hostname``, or a full
    address. Empty: nobody."""
    account: Limits = field(default_factory=Limits)
    domain: Limits = field(default_factory=Limits)
