"""Delivery reports: what the queue owes a sender becomes a message to that sender (RFC 3464).

A report has the null sender, so that none is ever made on a report for whoever gets it (RFC 5321 §4.5.5). One that
can't be delivered goes to the postmaster, and if he can't be reached either, to nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from posthouse.base.clock import Clock
from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.dsn import build_report
from posthouse.message.envelope import Envelope, Recipient
from posthouse.message.report import Action, RecipientStatus, Report
from posthouse.runtime.log import log, new_trace_id
from posthouse.runtime.measures import REPORTS

ORIGINAL_LIMIT = 65_536
"""The largest message that comes back whole."""

Submit = Callable[[Envelope, bytes], Awaitable[None]]
"""Commits a message into a mailbox or the queue before it returns, or raises."""

_CLASSES: dict[Action, str] = {"failed": "5", "delayed": "4"}


class Bounces:
    """Reports for the queue runner."""

    def __init__(self, hostname: str, policy: QueuePolicy, clock: Clock, submit: Submit) -> None:
        self._hostname = hostname
        self._policy = policy
        self._clock = clock
        self._submit = submit

    async def report(self, message: QueuedMessage, places: Sequence[int]) -> None:
        """Tell the sender what is owed for these recipients, in one message. Durable when it returns.

        Without a sender the postmaster is told.
        """
        envelope = message.envelope
        to = envelope.sender or self._postmaster()
        if not to:
            return
        trace_id = new_trace_id()
        report = Report(
            hostname=self._hostname,
            sender=to,
            recipients=tuple([self._status(message, place) for place in places]),
            message_id=f"<{trace_id}@{self._hostname}>",
            date=self._clock.now(),
            arrival=_date(message.arrived),
            envid=envelope.envid,
            ret=envelope.ret,
            smtputf8=envelope.smtputf8,
        )
        original = await asyncio.to_thread(_beginning, message)
        data = build_report(report, original, max_original_bytes=ORIGINAL_LIMIT)
        recipient = Recipient(to, notify=frozenset({"NEVER"}))
        body = "7BIT" if data.isascii() else "8BITMIME"
        is_utf8 = envelope.smtputf8 or not to.isascii()
        # RFC 8689 §5: what is said about a message needs what the message needed.
        tls = envelope.tls if envelope.tls == "REQUIRED" else ""
        await self._submit(Envelope("", (recipient,), trace_id, body=body, smtputf8=is_utf8, tls=tls), data)
        for action in {status.action for status in report.recipients}:
            REPORTS.add(action)
        log.info(
            "bounced",
            trace=message.id,
            report=trace_id,
            sender=envelope.sender,
            recipients=[f"{status.final} {status.action} {status.status}" for status in report.recipients],
        )
        log.info("report-submitted", trace=trace_id, about=message.id, recipient=to)

    def _postmaster(self) -> str:
        to = self._policy.double_bounces_to
        return to if "@" in to or not to else f"{to}@{self._hostname}"

    def _status(self, message: QueuedMessage, place: int) -> RecipientStatus:
        state = message.state.recipients[place]
        recipient = message.envelope.recipients[place]
        action = state.owed or "failed"
        reply = state.reply
        text = str(reply) if reply else ""
        if state.expired:
            text = f"{text}\nGiven up after {self._policy.lifetime_seconds / 86_400:.3g} days".lstrip()
        return RecipientStatus(
            final=recipient.address,
            action=action,
            status=_enhanced_status(action, reply.status if reply else "", is_expired=state.expired),
            original=recipient.orcpt,
            remote_mta=state.remote,
            diagnostic=text,
            last_attempt=_date(state.last_attempt) if state.last_attempt else None,
            retry_until=_date(message.arrived + self._policy.lifetime_seconds) if action == "delayed" else None,
        )


def _enhanced_status(action: Action, status: str, *, is_expired: bool) -> str:
    """The server's own where it goes with the action; RFC 3463: 4.4.7 is delivery time expired."""
    if is_expired:
        return "4.4.7"
    wanted = _CLASSES.get(action, "2")
    return status if status.startswith(wanted) else f"{wanted}.0.0"


def _beginning(message: QueuedMessage) -> bytes:
    """One octet more than comes back whole tells that there is more."""
    with message.open() as file:
        return file.read(ORIGINAL_LIMIT + 1)


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
