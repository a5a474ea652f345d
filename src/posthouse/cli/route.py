"""``posthouse route``: where mail for an address would go now, and how it would be protected on its way."""

from dataclasses import asdict
from typing import Annotated

import typer

from posthouse.base.clock import SystemClock
from posthouse.base.errors import PosthouseError
from posthouse.cli import terminal
from posthouse.cli.resolve import explained, outcome
from posthouse.cli.terminal import Json, printable, with_directory
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Explanation, ToHost
from posthouse.message.address import parse_path
from posthouse.outbound.outgoing import explain
from posthouse.outbound.ways import Ways
from posthouse.services.onward import Routes
from posthouse.services.rewriting.rewriting import canonical

Sender = Annotated[str, typer.Option("--from", metavar="SENDER", help="Whose mail; some have a relayhost.")]


def route(address: str, sender: Sender = "", as_json: Json = False) -> None:
    """Explain where mail for an address goes on the network: hosts in order, TLS, and why. Nobody is connected to,
    but the DNS and MTA-STS policies are asked. Exit code 0: there is a way; 1: there is none now."""
    parsed = _parsed(address)
    given = _parsed(sender) if sender else ""

    async def use(directory: Directory, settings: Settings) -> tuple[str, Explanation, list[tuple[str, Ways]]]:
        explanation = await explained(directory, settings, parsed)
        sender = canonical(settings, settings.rewrite.sender_canonical, given)
        return sender, explanation, await _ways(explanation, sender, directory, settings)

    sender, explanation, found = with_directory(use)
    if as_json:
        routes = [{"address": to, **asdict(ways)} for to, ways in found]
        terminal.print_json({"address": parsed, "sender": sender, "outcome": outcome(explanation), "routes": routes})
    else:
        _print(parsed, explanation, found)
        if sender != given:
            print(printable(f"the sender {given} is {sender}"))
    is_open = explanation.resolution is not None and all(ways.ways for _, ways in found)
    raise typer.Exit(0 if is_open else 1)


def _parsed(address: str) -> str:
    try:
        return parse_path(address, utf8=True)
    except ValueError as error:
        raise typer.BadParameter(f"{address!r} is not an address: {error}") from None


async def _ways(
    explanation: Explanation, sender: str, directory: Directory, settings: Settings
) -> list[tuple[str, Ways]]:
    """For each address that goes elsewhere by SMTP."""
    destinations = explanation.resolution.destinations if explanation.resolution else ()
    addresses = [to.address for to in destinations if isinstance(to, ToHost) and to.transport != "lmtp"]
    routes = Routes(directory, settings)
    found: list[tuple[str, Ways]] = []
    for address in addresses:
        try:
            way = await routes.route(address, sender)
        except PosthouseError as error:
            found.append((address, Ways("", "", "", (), str(error.reply))))
        else:
            found.append((address, await explain(way.destination, settings, SystemClock())))
    return found


def _print(address: str, explanation: Explanation, found: list[tuple[str, Ways]]) -> None:
    print(printable(address))
    for step in explanation.steps:
        if step.table == "canonical":
            print(printable(f"  {step.text}"))
    for line in outcome(explanation):
        print(printable(f"  {line}"))
    for to, ways in found:
        print(printable(f"{to} by {ways.found_by} of {ways.destination}" if ways.found_by else to))
        if ways.policy:
            print(printable(f"  MTA-STS: {ways.policy}"))
        for way in ways.ways:
            dnssec = "validated" if way.is_secure else "not validated"
            print(printable(f"  {way.preference:>5}  {way.host} [{way.address}]:{way.port}, DNS {dnssec}"))
            print(printable(f"         {way.security}: {way.why}"))
        if ways.connections:
            print(printable(f"  {_limits(ways)}"))
        if ways.trouble:
            print(printable(f"  no way: {ways.trouble}"))


def _limits(ways: Ways) -> str:
    rate = f", {ways.messages_per_minute} messages a minute" if ways.messages_per_minute else ""
    sources = f", from {' '.join(ways.source_addresses)}" if ways.source_addresses else ""
    return f"at most {ways.connections} connections{rate}{sources}"
