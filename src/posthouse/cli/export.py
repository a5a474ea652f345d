"""``posthouse export``: accounts and addresses, as an import takes them."""

import csv
import io
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.directory.directory import Directory
from posthouse.services import exporting

Table = Literal["accounts", "virtual", "alias", "transport", "relocated"]


def export(
    table: Annotated[Table, typer.Argument(help="What to print.")],
    secrets: Annotated[
        bool, typer.Option("--secrets", help="With what is stored for passwords: keep it to yourself.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print accounts or addresses as CSV, or JSON, on standard output; 'posthouse import csv' takes the CSV."""
    columns = exporting.columns(table, with_secrets=secrets)

    async def use(directory: Directory, _: object) -> None:
        pages = exporting.rows(directory, table, with_secrets=secrets, actor=actor())
        if as_json:
            await terminal.print_json_list(_as_dicts(columns, pages))
            return
        _print_csv([columns])
        async for page in pages:
            _print_csv(page)

    with_directory(use)


async def _as_dicts(
    columns: tuple[str, ...], pages: AsyncIterator[list[tuple[str | int, ...]]]
) -> AsyncIterator[dict[str, Any]]:
    async for page in pages:
        for row in page:
            yield dict(zip(columns, row, strict=True))


def _print_csv(rows: list[tuple[str | int, ...]] | list[tuple[str, ...]]) -> None:
    """A terminal is shown what it would obey, a file gets it as it is."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    if sys.stdout.isatty():
        print("\n".join(map(printable, text.getvalue().splitlines())))
    else:
        sys.stdout.buffer.write(text.getvalue().encode("utf-8", "replace"))
        sys.stdout.buffer.flush()
