"""``posthouse queue``: what waits to be delivered, and what the operator decides about it.

Works on the spool's files; the runner, if there is one, notices. A message that is being delivered at this moment
can't be changed; the command waits for it a few seconds.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer

from posthouse.base.clock import SystemClock
from posthouse.cli import terminal
from posthouse.cli.terminal import Json
from posthouse.mailqueue.spool import BusyError, CorruptMessageError, QueuedMessage, Spool
from posthouse.mailqueue.state import MessageState, RecipientState
from posthouse.runtime import privileges

PATIENCE_SECONDS = 5.0
"""How long to wait for a message that is being delivered."""

app = terminal.noun("Mail that waits to be delivered.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Messages, as `list` names them.")]
All = Annotated[bool, typer.Option("--all", help="All messages of the queue.")]


@dataclass(frozen=True, slots=True)
class RecipientView:
    """One recipient for people and programs; times are seconds since 1970."""

    address: str
    state: str
    attempts: int
    next_attempt: float | None
    reply: str
    remote: str


@dataclass(frozen=True, slots=True)
class MessageView:
    """One message for people and programs."""

    id: str
    size_bytes: int
    arrived: float
    sender: str
    hold: bool
    recipients: tuple[RecipientView, ...]


@app.command("list")
def list_messages(as_json: Json = False) -> None:
    """What waits, oldest first: a line for each recipient that is not done."""
    spool = _spool()
    views = (_view(message) for message in _messages(spool))
    if as_json:
        _print_array(views)
        return
    now = SystemClock().now().timestamp()
    count = 0
    for count, view in enumerate(views, 1):
        if count == 1:
            typer.echo(_line("ID", "SIZE", "AGE", "NEXT", "SENDER -> RECIPIENT", "REASON"))
        for line in _lines(view, now):
            typer.echo(line)
    if not count:
        typer.echo("The queue is empty.")


@app.command()
def show(ids: Ids = None, every: All = False, as_json: Json = False) -> None:
    """Everything the queue knows about messages."""
    spool = _spool()
    found = [message for name in _names(spool, ids, every) if (message := _load(spool, name)) is not None]
    if as_json:
        _print_array(_view(message) for message in found)
    else:
        for message in found:
            typer.echo("\n".join(_details(message)))
    if not every and len(found) < len(ids or ()):
        raise typer.Exit(1)


@app.command()
def retry(ids: Ids = None, every: All = False) -> None:
    """Try now, without waiting for the next attempt's time. What is on hold stays on hold."""

    def change(state: MessageState) -> str:
        state.report_after = 0.0
        for recipient in state.recipients:
            recipient.next_attempt = 0.0
        return "still on hold" if state.hold else "will be tried now"

    _change(ids, every, change)


@app.command()
def hold(ids: Ids = None, every: All = False) -> None:
    """Don't try until `release`."""

    def change(state: MessageState) -> str:
        state.hold = True
        return "on hold"

    _change(ids, every, change)


@app.command()
def release(ids: Ids = None, every: All = False) -> None:
    """Undo `hold`."""

    def change(state: MessageState) -> str:
        state.hold = False
        return "released"

    _change(ids, every, change)


@app.command()
def delete(ids: Ids = None, every: All = False) -> None:
    """Throw away: nobody gets the message, and nobody is told."""

    def change(state: MessageState) -> str:
        state.deleted = True
        return "deleted"

    _change(ids, every, change)


# The spool.


def _spool() -> Spool:
    """The spool, as the user whose it is: by a link in it, root would write wherever that user likes."""
    settings = terminal.settings()
    if settings.user and os.geteuid() == 0:
        try:
            privileges.drop(privileges.look_up(settings.user))
        except KeyError:
            raise typer.BadParameter(f"user = {settings.user!r}: this system has no such user") from None
    return Spool(settings.path("queue"))


def _names(spool: Spool, ids: Iterable[str] | None, every: bool) -> list[str]:
    if every == bool(ids):
        raise typer.BadParameter("say which messages, by their IDs, or --all")
    return sorted(spool.names()) if every else list(ids or ())


def _messages(spool: Spool) -> Iterator[QueuedMessage]:
    for name in sorted(spool.names()):
        message = _load(spool, name, expected=False)
        if message is not None:
            yield message


def _load(spool: Spool, name: str, *, expected: bool = True) -> QueuedMessage | None:
    """The message, unless it has gone, been deleted or is none; then it is said on standard error."""
    try:
        message = spool.load(name)
    except CorruptMessageError as failure:
        _complain(name, f"not a message of the queue: {failure}")
        return None
    if message is not None and not message.state.deleted:
        return message
    if expected:
        _complain(name, "no such message in the queue")
    return None


def _change(ids: Iterable[str] | None, every: bool, change: Callable[[MessageState], str]) -> None:
    """Do it to each message, and say so; exit code 1 if one of them could not be changed."""
    spool = _spool()
    results = [_change_one(spool, name, change, expected=not every) for name in _names(spool, ids, every)]
    if not results:
        typer.echo("The queue is empty.")
    if not all(results):
        raise typer.Exit(1)


def _change_one(spool: Spool, name: str, change: Callable[[MessageState], str], *, expected: bool) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            claim = spool.claim(name)
        except CorruptMessageError as failure:
            return _complain(name, f"not a message of the queue: {failure}")
        except BusyError:
            if time.monotonic() >= deadline:
                return _complain(name, "is being delivered right now; try again in a moment")
            time.sleep(0.05)
            continue
        break
    if claim is None or claim.message.state.deleted:
        if claim is not None:
            claim.release()
        # Of --all, what left the queue meanwhile needs no word.
        return not expected or _complain(name, "no such message in the queue")
    with claim:
        said = change(claim.message.state)
        spool.save(claim.message)
    spool.wake(name)
    typer.echo(f"{name}: {said}")
    return True


def _complain(name: str, text: str) -> bool:
    typer.echo(f"{_printable(name)}: {text}", err=True)
    return False


# What it looks like.


def _view(message: QueuedMessage) -> MessageView:
    return MessageView(
        id=message.id,
        size_bytes=message.size_bytes,
        arrived=message.arrived,
        sender=message.envelope.sender,
        hold=message.state.hold,
        recipients=tuple(
            [
                _recipient_view(recipient.address, state, message.state.hold)
                for recipient, state in zip(message.envelope.recipients, message.state.recipients, strict=True)
            ]
        ),
    )


def _recipient_view(address: str, state: RecipientState, hold: bool) -> RecipientView:
    word = state.status
    if state.is_pending:
        word = "held" if hold else "deferred" if state.attempts else "waiting"
    return RecipientView(
        address=address,
        state=f"{word}, report owed" if state.owed else word,
        attempts=state.attempts,
        next_attempt=state.next_attempt if state.is_pending and not hold else None,
        reply=str(state.reply) if state.reply else "",
        remote=state.remote,
    )


def _print_array(views: Iterable[MessageView]) -> None:
    """As a JSON array, one element at a time: a queue may be long."""
    separator = "["
    for view in views:
        typer.echo(separator + msgspec.json.encode(view).decode())
        separator = ","
    typer.echo("]" if separator == "," else "[]")


def _lines(view: MessageView, now: float) -> Iterator[str]:
    front = (view.id, _size(view.size_bytes), _span(now - view.arrived))
    for recipient in view.recipients:
        if recipient.state in ("delivered", "failed"):
            continue
        addresses = f"<{view.sender}> -> <{recipient.address}>" if front[0] else f"    -> <{recipient.address}>"
        yield _line(*front, _when(recipient, now), _printable(addresses), _printable(recipient.reply, limit=100))
        front = ("", "", "")


def _line(name: str, size: str, age: str, following: str, addresses: str, reason: str) -> str:
    return f"{name:<16}  {size:>6}  {age:>4}  {following:>8}  {addresses:<40}  {reason}".rstrip()


def _details(message: QueuedMessage) -> Iterator[str]:
    now = SystemClock().now().timestamp()
    view = _view(message)
    yield f"{view.id}  {_size(view.size_bytes)}, {_span(now - view.arrived)} old" + ("  ON HOLD" if view.hold else "")
    yield f"  from     <{_printable(view.sender)}>"
    if message.envelope.login:
        yield f"  login    {_printable(message.envelope.login)}"
    for recipient in view.recipients:
        yield f"  to       <{_printable(recipient.address)}>  {recipient.state}, attempts: {recipient.attempts}"
        if recipient.next_attempt is not None:
            yield f"           next attempt {_when(recipient, now)}"
        if recipient.reply:
            yield f"           {_printable(recipient.remote) or 'here'}: {_printable(recipient.reply)}"
    yield f"  file     {message.path}"


def _when(recipient: RecipientView, now: float) -> str:
    if recipient.next_attempt is None:
        return "held" if recipient.state.startswith("held") else "-"
    return "now" if recipient.next_attempt <= now else f"in {_span(recipient.next_attempt - now)}"


def _span(seconds: float) -> str:
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


def _printable(text: str, limit: int = 1000) -> str:
    """What a peer said must not move the cursor."""
    return terminal.printable(text.replace("\n", " ")[:limit])
