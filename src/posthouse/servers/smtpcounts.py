"""What one SMTP, submission or LMTP session adds to the counters: its answers, by stage, and its messages."""

from posthouse.base.errors import PosthouseError, Reply
from posthouse.protocols.smtp.events import DataStart, Hello, MailFrom, RcptTo, StartTls
from posthouse.runtime.measures import SMTP_BYTES, SMTP_REPLIES, SMTP_SECONDS, reason_of, result_of

STAGES: dict[type, str] = {
    Hello: "helo",
    StartTls: "starttls",
    MailFrom: "mail",
    RcptTo: "rcpt",
    DataStart: "data",
}
"""Events that are counted by whether they raise something. ``connect``, ``auth``, ``message`` (its end) and
``command`` (what the engine refuses by itself) are counted where it shows what came of them."""


class SmtpCounts:
    """Those of a service: ``lmtp``, ``submission`` or ``smtp``. Times are any clock's, in seconds."""

    __slots__ = ("_began", "_name")

    def __init__(self, is_lmtp: bool, is_submission: bool) -> None:
        self._name = "lmtp" if is_lmtp else "submission" if is_submission else "smtp"
        self._began = 0.0

    def accepted(self, stage: str | None) -> None:
        if stage is not None:
            SMTP_REPLIES.add(self._name, stage, "accepted", "")

    def turned_down(self, stage: str | None, reply: Reply, error: PosthouseError | None = None) -> None:
        """Refused or deferred, with this reply; ``error`` may have a word for why."""
        if stage is not None:
            SMTP_REPLIES.add(self._name, stage, result_of(reply), reason_of(reply, error))

    def message_began(self, now: float) -> None:
        self._began = now

    def message_accepted(self, now: float, size_bytes: int) -> None:
        self.accepted("message")
        SMTP_SECONDS.observe(now - self._began, self._name)
        SMTP_BYTES.add(self._name, amount=size_bytes)
