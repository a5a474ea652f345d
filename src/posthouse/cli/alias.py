"""``posthouse alias``: addresses that lead to other addresses."""

from dataclasses import asdict
from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, with_directory
from posthouse.services import aliases

app = terminal.noun("Aliases: addresses that lead to other addresses.")

Address = Annotated[str, typer.Argument(help="user@domain, @domain (catch-all), or a local name as postmaster.")]


@app.command()
def add(
    address: Address, dest: Annotated[list[str], typer.Argument(help="Where it leads; @domain: same user there.")]
) -> None:
    """Have an address lead to others as well. To keep a copy in an account, add its own address."""
    alias = with_directory(lambda directory, _: aliases.add(directory, address, dest, who=terminal.who()))
    print(f"{alias.key} -> {', '.join(alias.destinations)}")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Show the aliases."""
    found = with_directory(lambda directory, _: aliases.listing(directory))
    if as_json:
        terminal.print_json([asdict(alias) for alias in found])
    else:
        terminal.print_table(
            ("ADDRESS", "TABLE", "LEADS TO"),
            [(alias.key, alias.table, ", ".join(alias.destinations)) for alias in found],
        )


@app.command()
def remove(
    address: Address, dest: Annotated[list[str] | None, typer.Argument(help="Only these destinations.")] = None
) -> None:
    """Remove an alias, or some of its destinations."""
    alias = with_directory(lambda directory, _: aliases.remove(directory, address, dest or (), who=terminal.who()))
    print(f"{alias.key} -> {', '.join(alias.destinations)}" if alias.destinations else f"{alias.key} removed")
