"""``posthouse transport``: who delivers mail for a domain or an address."""

import sys
from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.directory.directory import Directory
from posthouse.services import transports

app = terminal.noun("Routes: how mail for a domain or an address is delivered.")

Key = Annotated[str, typer.Argument(help="domain, .domain (all below it), user@domain, or * (everything else).")]


@app.command()
def add(
    key: Key,
    value: Annotated[str, typer.Argument(help="name:nexthop, as in relay:[mail.example.com]:25 or lmtp:unix:/path.")],
) -> None:
    """Deliver mail for a domain or an address in another way."""
    name, warning = with_directory(lambda directory, _: transports.add(directory, key, value, actor=actor()))
    print(printable(f"{name} -> {value}"))
    if warning:
        print(f"posthouse: {printable(warning)}", file=sys.stderr)


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Show the routes."""

    async def use(directory: Directory, _: object) -> None:
        found = transports.listing(directory, actor=actor())
        if as_json:
            await terminal.print_json_list({"key": row.key, "destination": row.destination} async for row in found)
        else:
            await terminal.print_rows(("FOR", "TRANSPORT"), ((row.key, row.destination) async for row in found))

    with_directory(use)


@app.command()
def remove(key: Key) -> None:
    """Deliver it as everything else again."""
    name = with_directory(lambda directory, _: transports.remove(directory, key, actor=actor()))
    print(f"{printable(name)} has no transport of its own any more")
