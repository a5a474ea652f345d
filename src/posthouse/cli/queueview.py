"""What messages of the queue look like, to people and to programs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from posthouse.cli import terminal
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.mailqueue.state import Attempt, RecipientState

LEFT_ALONE = "its destination does not answer and is left alone"


@dataclass(frozen=True, slots=True)
class RecipientView:
    """One recipient for people and programs; times are seconds since 1970.

    ``left_alone``: it is due, but its destination does not answer, and is tried again at ``next_attempt``.
    """

    address: str
    state: str
    attempts: int
    next_attempt: float | None
    reply: str
    remote: str
    left_alone: bool = False
    history: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageView:
    """One message for people and programs."""

    id: str
    size_bytes: int
    arrived: float
    sender: str
    hold: bool
    recipients: tuple[RecipientView, ...]


def view_of(message: QueuedMessage, now: float, due: float, *, with_history: bool = False) -> MessageView:
    """``due``: when the runner looks at it again, 0 where that is not known."""
    return MessageView(
        id=message.id,
        size_bytes=message.size_bytes,
        arrived=message.arrived,
        sender=message.envelope.sender,
        hold=message.state.hold,
        recipients=tuple(
            [
                _recipient_view(
                    recipient.address, state, message.state.hold, due if due > now else 0.0, with_history=with_history
                )
                for recipient, state in zip(message.envelope.recipients, message.state.recipients, strict=True)
            ]
        ),
    )


def _recipient_view(
    address: str, state: RecipientState, hold: bool, later: float, *, with_history: bool
) -> RecipientView:
    word = state.status
    if state.is_pending:
        word = "held" if hold else "deferred" if state.attempts else "waiting"
    return RecipientView(
        address=address,
        state=f"{word}, report owed" if state.owed else word,
        attempts=state.attempts,
        next_attempt=max(state.next_attempt, later) if state.is_pending and not hold else None,
        left_alone=state.is_pending and not hold and later > state.next_attempt,
        reply=str(state.reply) if state.reply else "",
        remote=state.remote,
        history=tuple(state.history) if with_history else (),
    )


def print_array(views: Iterable[MessageView]) -> None:
    """As a JSON array, one element at a time: a queue may be long."""
    separator = "["
    for view in views:
        print(separator + msgspec.json.encode(view).decode())
        separator = ","
    print("]" if separator == "," else "[]")


def lines(view: MessageView, now: float) -> Iterator[str]:
    front = (view.id, _size(view.size_bytes), span(now - view.arrived))
    for recipient in view.recipients:
        if recipient.state in ("delivered", "failed"):
            continue
        addresses = f"<{view.sender}> -> <{recipient.address}>" if front[0] else f"    -> <{recipient.address}>"
        reason = printable(recipient.reply, limit=100) or (LEFT_ALONE if recipient.left_alone else "")
        yield line(*front, _when(recipient, now), printable(addresses), reason)
        front = ("", "", "")


def line(name: str, size: str, age: str, following: str, addresses: str, reason: str) -> str:
    return f"{name:<16}  {size:>6}  {age:>4}  {following:>8}  {addresses:<40}  {reason}".rstrip()


def details(message: QueuedMessage, view: MessageView, now: float) -> Iterator[str]:
    yield f"{view.id}  {_size(view.size_bytes)}, {span(now - view.arrived)} old" + ("  ON HOLD" if view.hold else "")
    yield f"  from     <{printable(view.sender)}>"
    if message.envelope.login:
        yield f"  login    {printable(message.envelope.login)}"
    for recipient in view.recipients:
        yield f"  to       <{printable(recipient.address)}>  {recipient.state}, attempts: {recipient.attempts}"
        if recipient.next_attempt is not None:
            why = f": {LEFT_ALONE}" if recipient.left_alone else ""
            yield f"           next attempt {_when(recipient, now)}{why}"
        if recipient.reply:
            yield f"           {printable(recipient.remote) or 'here'}: {printable(recipient.reply)}"
        for attempt in recipient.history:
            said = printable(str(attempt.reply or ""))
            yield f"           {_time(attempt.at)}  {attempt.result}  {printable(attempt.remote) or 'here'}: {said}"
            if attempt.times > 1:
                yield f"           {_time(attempt.until)}  the same, for the {_ordinal(attempt.times)} time"
    yield f"  file     {message.path}"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _when(recipient: RecipientView, now: float) -> str:
    if recipient.next_attempt is None:
        return "held" if recipient.state.startswith("held") else "-"
    return "now" if recipient.next_attempt <= now else f"in {span(recipient.next_attempt - now)}"


def span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _size(size_bytes: int) -> str:
    for unit in ("", "K", "M"):
        if size_bytes < 10_000:
            return f"{size_bytes}{unit}"
        size_bytes //= 1024
    return f"{size_bytes}G"


def printable(text: str, limit: int = 1000) -> str:
    """What a peer said must not move the cursor."""
    return terminal.printable(text.replace("\n", " ")[:limit])
