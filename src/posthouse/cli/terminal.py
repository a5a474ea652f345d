"""What all nouns share: the settings, the directory, and printing."""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer

from posthouse.base.errors import Refused, Reply
from posthouse.config.loader import load
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory

NOTHING_HERE = Reply(550, "5.3.5", "Nothing is set up here")
Result = TypeVar("Result")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def noun(text: str) -> typer.Typer:
    """The commands of one noun; without a command it says which there are."""
    return typer.Typer(
        help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
    )


def settings() -> Settings:
    """The settings; ``--config`` and ``--data`` have been put where ``load`` finds them. Raises ``ConfigError``."""
    return load()


def with_directory(use: Callable[[Directory, Settings], Awaitable[Result]], *, make: bool = False) -> Result:
    """Run a use case on the directory. Raises ``Refused`` where there is none, unless it may be made."""
    loaded = settings()

    async def run() -> Result:
        directory = Directory(loaded)
        path = getattr(directory.database, "path", "")  # of SQLite; network databases have none
        if not make and path and not os.path.exists(path):  # noqa: ASYNC240 - nothing else runs here
            raise Refused(NOTHING_HERE, f"there is no database at {path}: check --data and --config, or begin with "
                          "'posthouse domain add DOMAIN'")  # fmt: skip
        await directory.open()
        try:
            return await use(directory, loaded)
        finally:
            await directory.close()

    return asyncio.run(run())


def who() -> str:
    """Who is typing, for the audit: the login name, also behind sudo."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"cli:{name}"


def password(from_stdin: bool) -> str | None:
    """The first line of standard input, or None when it isn't asked for."""
    if not from_stdin:
        return None
    line = sys.stdin.buffer.readline().rstrip(b"\r\n")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("the password on standard input is not UTF-8") from None


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns; nothing at all for no rows. Control characters from the tables don't reach the terminal."""
    if not rows:
        return
    cells = [[printable(str(cell)) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """``text`` with what a terminal would obey made visible."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
