"""``posthouse mailbox index``: the search indexes of accounts."""

from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.mailbox import Addresses, Every, several
from posthouse.cli.terminal import Json
from posthouse.store import fulltext, indexing
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.fulltext import Fulltext

CHOICES = {"on": "on", "off": "off", "default": ""}


def index(
    addresses: Addresses = None,
    every: Every = False,
    use: Annotated[
        str, typer.Option("--use", help="on, off or default: what the account says, or mail.search_index.")
    ] = "",
    build: Annotated[bool, typer.Option("--build", help="Bring the index up to date now, or make one.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Remove it first.")] = False,
    as_json: Json = False,
) -> None:
    """Show the search indexes of accounts: what is in them, and what is still missing. Or make them now."""
    if use and use not in CHOICES:
        raise typer.BadParameter(f"--use {use}: expected on, off or default")
    by_default = terminal.settings().mail.search_index
    shown: list[dict[str, object]] = []
    for account, files in several(addresses, every):
        text_index = Fulltext(files.path, by_default=by_default)
        if use:
            text_index.choose(CHOICES[use])
        if rebuild or not text_index.is_wanted:
            fulltext.discard(text_index.path)
        if (build or rebuild) and text_index.is_wanted:
            _build(files, text_index)
        state = indexing.state(files, text_index)
        shown.append(
            {
                "account": account.email,
                "use": ("on" if text_index.is_wanted else "off") + ("" if text_index.choice else " (default)"),
                "messages": state.messages,
                "missing": state.missing,
                "too_large": state.too_large,
                "size_bytes": state.size_bytes,
            }
        )
    if as_json:
        terminal.print_json(shown)
        return
    headings = ("ACCOUNT", "USE", "MESSAGES", "MISSING", "TOO LARGE", "BYTES")
    terminal.print_table(headings, [tuple(row.values()) for row in shown])


def _build(files: AccountFiles, text_index: Fulltext) -> None:
    for _ in indexing.bring_up_to_date(files, text_index):
        pass
