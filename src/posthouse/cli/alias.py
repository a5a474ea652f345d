"""``posthouse alias``: addresses that lead to other addresses."""

from dataclasses import asdict
from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.directory.directory import Directory
from posthouse.services import aliases

app = terminal.noun("Aliases: addresses that lead to other addresses.")

Address = Annotated[str, typer.Argument(help="user@domain, @domain (catch-all), or a local name as postmaster.")]


@app.command()
def add(
    address: Address, dest: Annotated[list[str], typer.Argument(help="Where it leads; @domain: same user there.")]
) -> None:
    """Have an address lead to others as well. To keep a copy in an account, add its own address."""
    alias = with_directory(lambda directory, _: aliases.add(directory, address, dest, actor=actor()))
    print(printable(f"{alias.key} -> {', '.join(alias.destinations)}"))


@app.command("list")
def listing(
    domain: Annotated[str, typer.Option(help="Only those of this domain.")] = "", as_json: Json = False
) -> None:
    """Show the aliases."""

    async def use(directory: Directory, _: object) -> None:
        found = aliases.listing(directory, domain=domain, actor=actor())
        if as_json:
            await terminal.print_json_list(asdict(alias) async for alias in found)
        else:
            rows = ((alias.key, alias.table, ", ".join(alias.destinations)) async for alias in found)
            await terminal.print_rows(("ADDRESS", "TABLE", "LEADS TO"), rows)

    with_directory(use)


@app.command()
def remove(
    address: Address, dest: Annotated[list[str] | None, typer.Argument(help="Only these destinations.")] = None
) -> None:
    """Remove an alias, or some of its destinations."""
    alias = with_directory(lambda directory, _: aliases.remove(directory, address, dest or (), actor=actor()))
    left = f"{alias.key} -> {', '.join(alias.destinations)}" if alias.destinations else f"{alias.key} removed"
    print(printable(left))
