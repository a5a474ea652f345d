"""What an outcome means for a recipient: done, tried again, given up; and what its sender is owed to hear.

RFC 3461 §5.2: reports follow NOTIFY; a message with the null sender is never reported on to a sender (RFC 5321
§6.1): that one of these failed is for the postmaster to know, where there is one who wants to.
"""

from typing import assert_never

from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Outcome
from posthouse.mailqueue.schedule import next_attempt
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.mailqueue.state import Action, Attempt
from posthouse.runtime.log import log


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
            fail(message, place, now, policy)
        case Deferred():
            again = next_attempt(message.arrived, now, state.attempts, policy)
            if again is None:
                state.expired = True
                fail(message, place, now, policy)
            else:
                state.next_attempt = again
                _log("deferred", message, place, now)
                _warn_of_delay(message, now, policy)
        case _:
            assert_never(outcome)
    message.state.remember(place, Attempt(now, type(outcome).__name__.lower(), outcome.remote, outcome.reply))


def fail(message: QueuedMessage, place: int, now: float, policy: QueuePolicy) -> None:
    """Give a recipient up, and log it."""
    is_heard_of = give_up(message, place, policy)
    _log("failed", message, place, now)
    if not is_heard_of and not message.envelope.sender:
        log.warning(
            "dropped",
            trace=message.id,
            recipient=message.envelope.recipients[place].address,
            reason="a report that can't be delivered has nobody to return to",
        )


def give_up(message: QueuedMessage, place: int, policy: QueuePolicy) -> bool:
    """A recipient gets nothing; its ``reply`` says why. Whether somebody is owed to hear of that."""
    state = message.state.recipients[place]
    state.status = "failed"
    if message.envelope.sender:
        is_wanted = _wants(message, place, "FAILURE")
    else:
        is_wanted = bool(policy.double_bounces_to) and not _is_for(message, place, policy.double_bounces_to)
    if is_wanted:
        state.owed = "failed"
    return is_wanted


def _is_for(message: QueuedMessage, place: int, local: str) -> bool:
    """Whether it was for the postmaster already: nothing of that comes back to him."""
    recipient = message.envelope.recipients[place]
    names = (recipient.address, recipient.original)
    return any(name.lower() == local.lower() or name.rpartition("@")[0].lower() == local.lower() for name in names)


def _warn_of_delay(message: QueuedMessage, now: float, policy: QueuePolicy) -> None:
    """Once a message, of all that still wait. RFC 5321 §4.5.4.1 leaves open when."""
    state, after = message.state, policy.delay_warning_seconds
    if not after or now - message.arrived < after or state.is_warned:
        return
    for place, recipient in enumerate(state.recipients):
        if recipient.is_pending:
            recipient.warned = True
            if _wants(message, place, "DELAY"):
                _owe(message, place, "delayed")


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
