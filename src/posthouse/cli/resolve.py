"""``posthouse resolve``: what happens to mail for an address, step by step and by table."""

from dataclasses import asdict, replace
from typing import Any, assert_never

import typer

from posthouse.base.errors import TryLater
from posthouse.cli import terminal
from posthouse.cli.terminal import Json, printable, with_directory
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import (
    Destination,
    Discard,
    Explanation,
    Step,
    ToCommand,
    ToFile,
    ToHost,
    ToMailbox,
    ToPipe,
    ToUnixUser,
)
from posthouse.message.address import parse_path
from posthouse.services.outlets import Outlets
from posthouse.services.rewriting.rewriting import canonical


def resolve(address: str, as_json: Json = False) -> None:
    """Explain what happens to mail for an address. Exit code 0: deliverable; 1: not."""
    try:
        parsed = parse_path(address if "@" in address else f"{address}@localhost", utf8=True)
    except ValueError as error:
        raise typer.BadParameter(f"{address!r} is not an address: {error}") from None
    parsed = parsed if "@" in address else parsed.removesuffix("@localhost")

    async def explain(directory: Directory, settings: Settings) -> Explanation:
        explanation = await explained(directory, settings, parsed)
        return _checked(explanation, Outlets(settings))

    explanation = with_directory(explain)
    if as_json:
        terminal.print_json(_as_dict(parsed, explanation))
    else:
        _print(parsed, explanation)
    raise typer.Exit(0 if explanation.resolution else 1)


async def explained(directory: Directory, settings: Settings, address: str) -> Explanation:
    """What becomes of mail that comes by SMTP: the canonical address is looked up."""
    try:
        now = canonical(settings, settings.rewrite.recipient_canonical, address)
    except TryLater as error:
        return Explanation((), None, error)
    explanation = await directory.explain(now)
    if now == address:
        return explanation
    step = Step(0, "canonical", address, f"is {now}; not so for what comes by LMTP")
    return replace(explanation, steps=(step, *explanation.steps))


def _checked(explanation: Explanation, outlets: Outlets) -> Explanation:
    """The same as mail is told: what is not configured is no place to go to."""
    try:
        outlets.check(explanation.resolution.destinations if explanation.resolution else ())
    except TryLater as error:
        return replace(explanation, resolution=None, error=error)
    return explanation


def _print(address: str, explanation: Explanation) -> None:
    print(printable(address))
    met = ""
    for step in explanation.steps:
        if step.address != met and step.address != address:
            print(f"  {printable(step.address)}")
        met = step.address
        print(f"    {step.number}  {step.table:<10} {printable(step.text)}")
    for line in outcome(explanation):
        print(printable(line))


def outcome(explanation: Explanation) -> list[str]:
    """What becomes of the mail, a line each."""
    if error := explanation.error:
        word = "try later" if isinstance(error, TryLater) else "refused"
        return [f"{word}: {error.reply}", f"reason: {error.reason}"]
    resolution = explanation.resolution
    assert resolution is not None
    lines = [f"goes to {_described(destination)}" for destination in resolution.destinations]
    lines += [f"fails for {failure.address}: {failure.reply}" for failure in resolution.failures]
    if resolution.relay:
        lines.append("relaying: accepted only from our own users and networks")
    return lines


def _described(destination: Destination) -> str:
    if isinstance(destination, Discard):
        return f"nowhere: mail for {destination.address} is accepted and discarded"
    owner = f", from {destination.owner}" if destination.owner else ""
    return _place(destination) + owner


def _place(destination: ToMailbox | ToHost | ToPipe | ToFile | ToCommand | ToUnixUser) -> str:
    match destination:
        case ToMailbox():
            return f"the mailbox {destination.account.maildir} of {destination.account.email}"
        case ToHost():
            hop = destination.nexthop or "relayhost, or by MX"
            return f"{destination.address} by {destination.transport} to {hop}"
        case ToPipe():
            return f"{destination.address} by the pipe {destination.transport}:{destination.nexthop}"
        case ToFile():
            return f"the file {destination.path}"
        case ToCommand():
            return f"the command {destination.command}"
        case ToUnixUser():
            return f"the Unix user {destination.name}"
        case _:
            assert_never(destination)


def _as_dict(address: str, explanation: Explanation) -> dict[str, Any]:
    resolution, error = explanation.resolution, explanation.error
    return {
        "address": address,
        "deliverable": resolution is not None,
        "relay": resolution is not None and resolution.relay,
        "destinations": [
            {"kind": type(destination).__name__, **asdict(destination)}
            for destination in (resolution.destinations if resolution else ())
        ],
        "failures": [asdict(failure) for failure in (resolution.failures if resolution else ())],
        "error": error and {"reply": asdict(error.reply), "reason": error.reason},
        "steps": [asdict(step) for step in explanation.steps],
    }
