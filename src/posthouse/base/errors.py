"""The three families of errors, and the reply they carry to the peer.

``PeerError``: the peer broke the protocol. ``Refused``: our policy says no. ``TryLater``: our own trouble.
Anything else that is raised is a bug: it is logged with its traceback and answered like ``TryLater``.

Invariant: what a peer may see (``reply``) and what only the log may see (``reason``) are separate.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply; other protocols use its class (2, 4 or 5) and its text.

    ``code`` is three digits (RFC 5321 §4.2), ``status`` the enhanced status ``class.subject.detail``
    (RFC 3463) or empty, ``text`` one or more lines of printable ASCII separated by LF.
    """

    code: int
    status: str
    text: str

    @property
    def is_permanent_failure(self) -> bool:
        return self.code >= 500

    @property
    def is_success(self) -> bool:
        return self.code < 400

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}" if self.status else f"{self.code} {self.text}"


TEMPORARY_FAILURE = Reply(451, "4.3.0", "Temporary failure at this server, please try again later")


class PosthouseError(Exception):
    """Whatever we raise on purpose. ``reply`` is public, ``reason`` is for the log.

    ``word`` is what it is counted under, one of few; empty: its enhanced status.
    """

    word = ""

    def __init__(self, reply: Reply, reason: str = "") -> None:
        super().__init__(f"{reply}" + (f" ({reason})" if reason else ""))
        self.reply = reply
        self.reason = reason or reply.text


class PeerError(PosthouseError):
    """The peer broke the protocol."""


class Refused(PosthouseError):
    """Our policy says no; saying it again won't help."""


class TryLater(PosthouseError):
    """Our trouble, not the peer's: the answer is always a 4xx."""

    def __init__(self, reason: str, reply: Reply = TEMPORARY_FAILURE) -> None:
        super().__init__(reply, reason)
