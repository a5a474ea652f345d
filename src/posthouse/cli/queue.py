"""``posthouse queue``: what waits to be delivered, and what the operator decides about it.

Works on the spool's files; the runner, if there is one, notices. A message that is being delivered at this moment
can't be changed; the command waits for it a few seconds.
"""

import contextlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from posthouse.base.clock import SystemClock
from posthouse.base.errors import Reply
from posthouse.cli import terminal
from posthouse.cli.queuechoice import Choice, choosing, state_of
from posthouse.cli.queueview import details, line, lines, print_array, printable, span, view_of
from posthouse.cli.terminal import Json
from posthouse.mailqueue.index import due_times
from posthouse.mailqueue.outcomes import give_up
from posthouse.mailqueue.spool import BusyError, CorruptMessageError, QueuedMessage, Spool
from posthouse.runtime import privileges

PATIENCE_SECONDS = 5.0
"""How long to wait for a message that is being delivered."""
TOGETHER = 200
"""How many messages are changed in one step, each an open file."""

app = terminal.noun("Mail that waits to be delivered.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
RETURNED = Reply(554, "5.0.0", "Returned to its sender by the operator")
Change = Callable[[QueuedMessage], str]


@app.command("list")
@choosing
def list_messages(choice: Choice, as_json: Json = False) -> None:
    """What waits, oldest first: a line for each recipient that is not done."""
    spool, now = _spool(), SystemClock().now().timestamp()
    with due_times(spool.directory) as due:
        views = (view_of(message, now, due(message.id)) for message in _chosen(spool, choice))
        if as_json:
            print_array(views)
            return
        count = 0
        for count, view in enumerate(views, 1):
            if count == 1:
                typer.echo(line("ID", "SIZE", "AGE", "NEXT", "SENDER -> RECIPIENT", "REASON"))
            for text in lines(view, now):
                print(text)  # typer's would flush each line: a queue may be long
    if not count:
        typer.echo("The queue is empty." if not choice.is_filter else "No such messages in the queue.")


@app.command()
@choosing
def summary(
    choice: Choice,
    by: Annotated[str, typer.Option("--by", help="destination, reason, sender or state.")] = "destination",
    as_json: Json = False,
) -> None:
    """How many recipients wait, by destination, reason, sender or state; the most first."""
    if by not in ("destination", "reason", "sender", "state"):
        raise typer.BadParameter(f"--by {by}: it is destination, reason, sender or state")
    counts = Counter[str]()
    oldest: dict[str, float] = {}
    for message in _chosen(_spool(), choice):
        for key in _keys(message, by):
            counts[key] += 1
            oldest[key] = min(message.arrived, oldest.get(key, message.arrived))
    now = SystemClock().now().timestamp()
    rows = [(key, count, oldest[key]) for key, count in counts.most_common()]
    if as_json:
        terminal.print_json([{by: key, "recipients": count, "oldest": since} for key, count, since in rows])
        return
    terminal.print_table(
        ["RECIPIENTS", "OLDEST", by.upper()], [(count, span(now - since), key) for key, count, since in rows]
    )
    if not rows:
        typer.echo("The queue is empty." if not choice.is_filter else "No such messages in the queue.")


@app.command()
@choosing
def show(choice: Choice, as_json: Json = False) -> None:
    """Everything the queue knows about messages, with the history of their attempts."""
    choice.check()
    spool, now = _spool(), SystemClock().now().timestamp()
    count = 0
    with due_times(spool.directory) as due:
        found = ((one, view_of(one, now, due(one.id), with_history=True)) for one in _chosen(spool, choice))
        if as_json:
            views = [view for _, view in found]
            count = len(views)
            print_array(views)
        else:
            for message, view in found:
                count += 1
                typer.echo("\n".join(details(message, view, now)))
    if count < len(choice.ids):
        raise typer.Exit(1)


@app.command()
@choosing
def export(
    choice: Choice,
    directory: Annotated[Path | None, typer.Option("--directory", help="Write ID.eml files there.")] = None,
) -> None:
    """Messages as they would be sent: one to standard output, or each to a file of its own."""
    choice.check()
    count = 0
    # As who is typing, who may not see more than the queue's user does: the spool has become that user.
    for count, message in enumerate(_chosen(_spool(), choice), 1):
        if directory is None and count > 1:
            raise typer.BadParameter("more than one message needs --directory")
        with message.open() as file, _exported(message.id, directory) as target:
            shutil.copyfileobj(file, target)
    if count < max(len(choice.ids), 1):
        raise typer.Exit(1)


@app.command()
@choosing
def retry(choice: Choice, dry_run: DryRun = False) -> None:
    """Try now, without waiting for the next attempt's time. What is on hold stays on hold."""

    def change(message: QueuedMessage) -> str:
        message.state.report_after = 0.0
        for recipient in message.state.recipients:
            recipient.next_attempt = 0.0
        return "still on hold" if message.state.hold else "will be tried now"

    _change(choice, change, dry_run=dry_run)


@app.command()
@choosing
def hold(choice: Choice, dry_run: DryRun = False) -> None:
    """Don't try until `release`."""

    def change(message: QueuedMessage) -> str:
        message.state.hold = True
        return "on hold"

    _change(choice, change, dry_run=dry_run)


@app.command()
@choosing
def release(choice: Choice, dry_run: DryRun = False) -> None:
    """Undo `hold`."""

    def change(message: QueuedMessage) -> str:
        message.state.hold = False
        return "released"

    _change(choice, change, dry_run=dry_run)


@app.command()
@choosing
def delete(choice: Choice, dry_run: DryRun = False) -> None:
    """Throw away: nobody gets the message, and nobody is told."""

    def change(message: QueuedMessage) -> str:
        message.state.deleted = True
        return "deleted"

    _change(choice, change, dry_run=dry_run)


@app.command()
@choosing
def bounce(choice: Choice, dry_run: DryRun = False) -> None:
    """Give up now: the sender gets a report, as soon as the server runs."""
    policy = terminal.settings().queue

    def change(message: QueuedMessage) -> str:
        message.state.hold = False
        for place, recipient in enumerate(message.state.recipients):
            if recipient.is_pending:
                recipient.reply, recipient.remote = RETURNED, ""
                give_up(message, place, policy)
        return "returned to its sender"

    _change(choice, change, dry_run=dry_run)


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


def _chosen(spool: Spool, choice: Choice) -> Iterator[QueuedMessage]:
    """The messages, oldest first; of ids that are not there it is said on standard error."""
    now = SystemClock().now().timestamp()
    count = 0
    for name in choice.ids or sorted(spool.names()):
        message = _load(spool, name, expected=bool(choice.ids))
        if message is not None and choice.matches(message, now):
            yield message
            count += 1
            if count == choice.limit:
                return


def _keys(message: QueuedMessage, by: str) -> Iterator[str]:
    for recipient, state in zip(message.envelope.recipients, message.state.recipients, strict=True):
        if state.is_pending:
            match by:
                case "destination":
                    yield recipient.address.rpartition("@")[2]
                case "reason":
                    yield printable(str(state.reply or ""), limit=200) or "not tried yet"
                case "sender":
                    yield message.envelope.sender or "<>"
                case _:
                    yield state_of(state, hold=message.state.hold)


@contextlib.contextmanager
def _exported(name: str, directory: Path | None) -> Iterator[BinaryIO]:
    if directory is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with (directory / f"{name}.eml").open("xb") as file:
            yield file
    except OSError as failure:
        raise typer.BadParameter(f"{directory}: {failure.strerror}") from None
    typer.echo(str(directory / f"{name}.eml"))


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


def _change(choice: Choice, change: Change, *, dry_run: bool) -> None:
    """Do it to each message, and say so; exit code 1 if one of them could not be changed."""
    choice.check()
    spool = _spool()
    if choice.is_filter or choice.limit or dry_run:
        found = [message.id for message in _chosen(spool, choice)]
        is_complete = len(found) >= len(choice.ids) or choice.is_filter
    else:
        found, is_complete = list(choice.ids or sorted(spool.names())), True
    if dry_run:
        for name in found:
            message = spool.load(name)
            if message is not None:
                typer.echo(f"{name}: would be {change(message).removeprefix('will be ')}")
    else:
        is_complete &= _change_all(spool, found, change, choice)
    if not found:
        typer.echo("No such messages in the queue." if choice.ids or choice.is_filter else "The queue is empty.")
    if not is_complete:
        raise typer.Exit(1)


def _change_all(spool: Spool, names: Sequence[str], change: Change, choice: Choice) -> bool:
    """Whether nothing was left out that was asked for. What is being delivered is waited for at the end."""
    is_complete, busy = True, list[str]()
    for start in range(0, len(names), TOGETHER):
        is_complete &= _change_some(spool, names[start : start + TOGETHER], change, choice, busy)
    for name in busy:
        deadline, still = time.monotonic() + PATIENCE_SECONDS, [name]
        while still and time.monotonic() < deadline:
            time.sleep(0.05)
            still.clear()
            is_complete &= _change_some(spool, [name], change, choice, still)
        if still:
            is_complete = _complain(name, "is being delivered right now; try again in a moment")
    return is_complete


def _change_some(spool: Spool, names: Sequence[str], change: Change, choice: Choice, busy: list[str]) -> bool:
    """One step: all of it is on disk, or none. Adds to ``busy`` those that somebody else has."""
    is_complete = True
    with contextlib.ExitStack() as claims:
        changed: list[tuple[QueuedMessage, str]] = []
        now = SystemClock().now().timestamp()
        for name in names:
            try:
                claim = spool.claim(name)
            except CorruptMessageError as failure:
                is_complete = _complain(name, f"not a message of the queue: {failure}")
                continue
            except BusyError:
                busy.append(name)
                continue
            if claim is not None:
                claims.enter_context(claim)
            if claim is None or claim.message.state.deleted:
                # Of a filter, what left the queue or changed meanwhile needs no word.
                is_complete &= not choice.ids or _complain(name, "no such message in the queue")
            elif choice.matches(claim.message, now):
                changed.append((claim.message, change(claim.message)))
        spool.save_all([message for message, _ in changed])
    for message, said in changed:
        spool.wake(message.id)
        typer.echo(f"{message.id}: {said}")
    return is_complete


def _complain(name: str, text: str) -> bool:
    typer.echo(f"{printable(name)}: {text}", err=True)
    return False
