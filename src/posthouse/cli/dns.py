"""``posthouse dns``: whether the name servers do what mail needs."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json
from posthouse.runtime.dnscheck import check_servers, overall_problem

app = terminal.noun("Whether the name servers do what mail needs.")


@app.callback()
def _noun() -> None:
    """Without this, typer would take the only command for the noun itself."""


@app.command()
def check(
    name: Annotated[str, typer.Option(metavar="NAME", help="A name in a signed zone; the root without.")] = ".",
    as_json: Json = False,
) -> None:
    """Ask each name server for a signed name: does it answer, how fast, does it validate. Exit code 0: all is
    well; 1: something is wrong."""
    settings = terminal.settings()
    try:
        checks = asyncio.run(check_servers(settings.dns, name))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    problem = overall_problem(checks, needs_validation=settings.smtp.dane)
    if as_json:
        terminal.print_json({"servers": [asdict(one) for one in checks], "problem": problem})
    else:
        rows = [
            (one.server, f"{one.seconds:.3f}", _word(one.validates), _word(one.is_believed), one.problem or "-")
            for one in checks
        ]
        terminal.print_table(("SERVER", "SECONDS", "VALIDATES", "BELIEVED", "PROBLEM"), rows)
        if problem:
            print(problem)
    raise typer.Exit(1 if problem or any(one.problem for one in checks) else 0)


def _word(yes: bool) -> str:
    return "yes" if yes else "no"
