"""``posthouse smtp``: why a client's mail is let in, or is not."""

import ipaddress
from typing import Annotated

import typer

from posthouse.base.clock import SystemClock
from posthouse.base.errors import PosthouseError, Refused, Reply, TryLater
from posthouse.cli import terminal
from posthouse.cli.terminal import Json, printable, with_directory
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.message.address import parse_path, split
from posthouse.services.networks import is_in
from posthouse.services.reception import NOT_YOUR_ADDRESS, RELAY_DENIED
from posthouse.services.restrictions.decision import Outcome, Step
from posthouse.services.restrictions.facts import Facts
from posthouse.services.restrictions.lists import Restrictions, open_restrictions
from posthouse.services.rewriting.rewriting import canonical

app = terminal.noun("Why a client's mail is let in, or is not.")


@app.callback()
def _noun() -> None:
    """Without this, typer would take the only command for the noun itself."""


@app.command()
def explain(
    client: Annotated[str, typer.Option("--client", metavar="IP", help="The client's address.")],
    sender: Annotated[str, typer.Option("--from", metavar="ADDRESS", help="The sender; '' for a report's.")],
    recipient: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="The recipient.")],
    name: Annotated[str | None, typer.Option(help="The client's name, instead of what the DNS says.")] = None,
    helo: Annotated[str, typer.Option(help="What it calls itself.")] = "client.invalid",
    login: Annotated[str, typer.Option(help="Who has logged in.")] = "",
    as_json: Json = False,
) -> None:
    """Go through the restriction lists for one recipient, and show every step. Exit code 0: let in; 1: not."""
    try:
        address = str(ipaddress.ip_address(client))
    except ValueError:
        raise typer.BadParameter(f"{client!r} is no IP address") from None
    from_path = _path(sender, is_sender=True)
    to_path = _path(recipient, is_sender=False)

    async def go(directory: Directory, settings: Settings) -> tuple[list[Step], Outcome]:
        async with open_restrictions(settings, directory) as restrictions:
            return await walk(restrictions, settings)

    async def walk(restrictions: Restrictions, settings: Settings) -> tuple[list[Step], Outcome]:
        restrictions.is_dry = True
        facts = Facts(
            address,
            restrictions.directory,
            restrictions.resolver,
            restrictions.dns_lists,
            helo=helo,
            sender=from_path,
            recipient=to_path,
            login=login,
            name=name,
            is_trusted=is_in(address, settings.smtp.mynetworks),
            is_submission=bool(login),
            instance=f"explain.{SystemClock().now().timestamp():.0f}",
        )
        steps: list[Step] = []
        try:
            return steps, await _outcome(restrictions, settings, facts, steps)
        except PosthouseError as error:
            steps.append(Step("", "", f"{'try later' if isinstance(error, TryLater) else 'refused'}: {error.reason}"))
            return steps, Outcome(error.reply, error.reason)

    steps, outcome = with_directory(go)
    if as_json:
        terminal.print_json(_as_dict(steps, outcome))
    else:
        _print(steps, outcome)
    raise typer.Exit(1 if outcome.reply else 0)


async def _outcome(restrictions: Restrictions, settings: Settings, facts: Facts, steps: list[Step]) -> Outcome:
    """What a session does, in its order."""
    if facts.login and facts.sender:
        if not await facts.directory.may_send_as(facts.login, facts.sender):
            raise Refused(NOT_YOUR_ADDRESS, f"{facts.login} may not send as {facts.sender}")
        steps.append(Step("always", "login", f"{facts.login} may send as {facts.sender}"))
    outcome = await restrictions.recipient(facts, steps.append)
    if outcome.reply is not None:
        return outcome
    address = canonical(settings, settings.rewrite.recipient_canonical, facts.recipient)
    if address != facts.recipient:
        steps.append(Step("always", "canonical", f"{facts.recipient} is {address}"))
    resolution = await facts.directory.resolve(address)
    is_ours = address != facts.recipient and await facts.directory.is_hosted(split(facts.recipient)[1])
    if resolution.relay and not is_ours and not facts.may_relay:
        raise Refused(RELAY_DENIED, f"{facts.client} may not relay to {facts.recipient}")
    what = "is taken here, whoever sends it"
    if resolution.relay and not is_ours:
        what = "goes elsewhere, which this client may ask for"
    steps.append(Step("always", "destination", f"{facts.recipient} {what}"))
    facts.stage, facts.recipients = "DATA", 1
    data = await restrictions.data(facts, steps.append)
    return Outcome(data.reply, data.reason, outcome.headers + data.headers)


def _path(text: str, *, is_sender: bool) -> str:
    try:
        return parse_path(text, allow_empty=is_sender, utf8=True)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an address: {error}") from None


def _print(steps: list[Step], outcome: Outcome) -> None:
    width = max((len(step.stage) for step in steps), default=0)
    for step in steps:
        print(
            printable(f"  {step.stage:<{width}}  {f'{step.restriction}: ' if step.restriction else ''}{step.outcome}")
        )
    for header in outcome.headers:
        print(printable(f"header: {header}"))
    print(_word(outcome.reply) + (printable(f": {outcome.reply}") if outcome.reply else ""))
    if outcome.reply:
        print(printable(f"reason: {outcome.reason}"))


def _word(reply: Reply | None) -> str:
    if reply is None:
        return "let in"
    return "refused" if reply.is_permanent_failure else "refused for now"


def _as_dict(steps: list[Step], outcome: Outcome) -> dict[str, object]:
    reply = outcome.reply
    return {
        "outcome": _word(reply),
        "reply": str(reply) if reply else None,
        "reason": outcome.reason or None,
        "headers": list(outcome.headers),
        "steps": [{"list": one.stage, "restriction": one.restriction, "outcome": one.outcome} for one in steps],
    }
