"""``posthouse relocated``: users who have moved, so that senders are told."""

from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.directory.directory import Directory
from posthouse.services import relocated

app = terminal.noun("Users who have moved: senders are told where to.")


@app.command()
def add(
    address: Annotated[str, typer.Argument(help="user@domain, @domain or a local name.")],
    new_address: Annotated[str, typer.Argument(help="What senders are told.")] = relocated.UNKNOWN,
    force: Annotated[bool, typer.Option("--force", help="Also where an account's mail is refused then.")] = False,
) -> None:
    """Refuse mail for an address, and say what the new one is."""
    key = with_directory(
        lambda directory, _: relocated.add(directory, address, new_address, actor=actor(), force=force)
    )
    print(printable(f"{key} has moved to {new_address}"))


@app.command("list")
def listing(
    domain: Annotated[str, typer.Option(help="Only those of this domain.")] = "", as_json: Json = False
) -> None:
    """Show who has moved."""

    async def use(directory: Directory, _: object) -> None:
        found = relocated.listing(directory, domain=domain, actor=actor())
        if as_json:
            await terminal.print_json_list({"key": row.key, "destination": row.destination} async for row in found)
        else:
            await terminal.print_rows(("ADDRESS", "MOVED TO"), ((row.key, row.destination) async for row in found))

    with_directory(use)


@app.command()
def remove(address: str) -> None:
    """Accept mail for an address again."""
    key = with_directory(lambda directory, _: relocated.remove(directory, address, actor=actor()))
    print(f"{printable(key)} is no longer relocated")
