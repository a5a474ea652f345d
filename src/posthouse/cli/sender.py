"""``posthouse account sender``: what a login may send as beyond its own addresses."""

from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, with_directory
from posthouse.services import senders

app = terminal.noun("Addresses that a login may send as, beside its own and its aliases.")

Sender = Annotated[str, typer.Argument(metavar="SENDER", help="An address, or @domain for every one there.")]


@app.command()
def add(address: str, sender: Sender) -> None:
    """Let a login send as another address."""
    login, granted = with_directory(lambda directory, _: senders.add(directory, address, sender, actor=actor()))
    print(f"{login} may send as {granted}")


@app.command()
def remove(address: str, sender: Sender) -> None:
    """Take that back."""
    login, granted = with_directory(lambda directory, _: senders.remove(directory, address, sender, actor=actor()))
    print(f"{login} may no longer send as {granted}")


@app.command("list")
def listing(
    address: Annotated[str, typer.Argument(help="Only what this login may.")] = "", as_json: Json = False
) -> None:
    """Show who may send as what."""
    found = with_directory(lambda directory, _: senders.listing(directory, address, actor=actor()))
    if as_json:
        terminal.print_json([{"login": login, "sender": granted} for login, granted in found])
    else:
        terminal.print_table(("LOGIN", "MAY SEND AS"), found)
