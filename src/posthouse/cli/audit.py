"""``posthouse audit``: who changed what, when and from where."""

from dataclasses import asdict
from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, with_directory
from posthouse.directory.directory import Directory
from posthouse.services import audit as log


def audit(
    subject: Annotated[str, typer.Option("--object", help="Only this address, domain (all of it) or file.")] = "",
    who: Annotated[str, typer.Option(help="Only changes by this one.")] = "",
    since: Annotated[str, typer.Option(help="Since then: 2026-11-22, 2026-11-22T21:00 (UTC), or 2h, 7d ago.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """Show the changes of domains, accounts and addresses, newest first."""

    async def use(directory: Directory, _: object) -> None:
        found = log.listing(directory, subject=subject, who=who, since=since, limit=limit, actor=actor())
        if as_json:
            await terminal.print_json_list(asdict(entry) async for entry in found)
        else:
            rows = ((e.when, e.who, e.source, e.what, e.object, e.detail) async for e in found)
            await terminal.print_rows(("WHEN", "WHO", "FROM", "WHAT", "OBJECT", "DETAIL"), rows)

    with_directory(use)
