"""What an outcome means for a recipient: done, tried again, given up; and what its sender is owed to hear.

RFC 3461 §5.2: reports follow NOTIFY; a message with the null sender is never reported on (RFC 5321 §6.1).
"""

from typing import assert_never

from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Outcome
from posthouse.mailqueue.schedule import next_attempt
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.mailqueue.state import Action
from posthouse.runtime.log import log

DELAY_WARNING_SECONDS = 4 * 3600
"""A sender hears once of a message that has waited this long. RFC 5321 §4.5.4.1 leaves that open."""


def record(message: QueuedMessage, place: int, outcome: Outcome, now: float, policy: QueuePolicy) -> None:
    """Note in the message's state what an attempt at ``now`` came to for one recipient, and log it."""
    state = message.state.recipients[place]
    state.attempts += 1
    state.last_attempt = now
    state.reply = outcome.reply
    state.remote = outcome.remote
    match outcome:
        case Delivered():
            state.status = "delivered"
            _log("delivered", message, place, now)
            if "SUCCESS" in message.envelope.recipients[place].notify and not outcome.dsn_passed_on:
                _owe(message, place, "relayed" if outcome.remote else "delivered")
        case Failed():
            _fail(message, place, now)
        case Deferred():
            again = next_attempt(message.arrived, now, state.attempts, policy)
            if again is None:
                state.expired = True
                _fail(message, place, now)
            else:
                state.next_attempt = again
                _log("deferred", message, place, now)
                _warn_of_delay(message, place, now)
        case _:
            assert_never(outcome)


def _fail(message: QueuedMessage, place: int, now: float) -> None:
    message.state.recipients[place].status = "failed"
    _log("failed", message, place, now)
    if _wants(message, place, "FAILURE") and not _owe(message, place, "failed"):
        log.warning(
            "dropped",
            trace=message.id,
            recipient=message.envelope.recipients[place].address,
            reason="a report that can't be delivered has nobody to return to",
        )


def _warn_of_delay(message: QueuedMessage, place: int, now: float) -> None:
    state = message.state.recipients[place]
    if now - message.arrived >= DELAY_WARNING_SECONDS and not state.warned and _wants(message, place, "DELAY"):
        state.warned = _owe(message, place, "delayed")


def _wants(message: QueuedMessage, place: int, condition: str) -> bool:
    """Whether the sender asked for it, or did not say. RFC 3461 §4.1."""
    notify = message.envelope.recipients[place].notify
    return not notify or condition in notify


def _owe(message: QueuedMessage, place: int, action: Action) -> bool:
    """Remember to report, unless there is nobody to report to."""
    if message.envelope.sender:
        message.state.recipients[place].owed = action
        return True
    return False


def _log(event: str, message: QueuedMessage, place: int, now: float) -> None:
    state = message.state.recipients[place]
    facts: dict[str, object] = {"next_attempt": round(state.next_attempt)} if event == "deferred" else {}
    if state.expired:
        facts["expired"] = True
    log.info(
        event,
        trace=message.id,
        recipient=message.envelope.recipients[place].address,
        sender=message.envelope.sender,
        remote=state.remote,
        reply=str(state.reply),
        delay=round(now - message.arrived, 3),
        **facts,
    )
