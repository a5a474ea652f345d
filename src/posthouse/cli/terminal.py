"""What all nouns share: the settings, the directory, and printing."""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer

from posthouse.base.errors import Refused, Reply
from posthouse.config.loader import load
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor

NOTHING_HERE = Reply(550, "5.3.5", "Nothing is set up here")
Result = TypeVar("Result")
_TABLE_ROWS = 1_000
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
        _check_there(loaded, make=make)
        directory = Directory(loaded)
        await directory.open()
        try:
            return await use(directory, loaded)
        finally:
            await directory.close()

    return asyncio.run(run())


def _check_there(loaded: Settings, *, make: bool) -> None:
    scheme, _, place = loaded.database.url.partition(":")
    path = loaded.path(place)
    if scheme == "sqlite" and not make and not os.path.exists(path):
        raise Refused(NOTHING_HERE, f"there is no database at {path}: check --data and --config, or "
                      "begin with 'posthouse domain add DOMAIN'")  # fmt: skip


def actor() -> Actor:
    """Who is typing: may change everything."""
    return Actor(who(), source="cli")


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
    print(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON in which nothing stands that a terminal would obey."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


async def print_json_list(values: AsyncIterator[Any]) -> None:
    """A list of JSON objects, one a line, each printed as it comes."""
    separator = "["
    async for value in values:
        print(f"{separator}\n  {json_text(value)}", end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")


async def print_rows(headings: Sequence[str], rows: AsyncIterator[Sequence[object]]) -> None:
    """``print_table`` of rows that may be too many to hold: a thousand at a time have the same widths."""
    waiting: list[Sequence[object]] = []
    widths: list[int] = []
    async for row in rows:
        waiting.append(row)
        if len(waiting) == _TABLE_ROWS:
            widths = _print_cells([headings, *waiting] if not widths else waiting, widths)
            waiting = []
    if waiting:
        _print_cells([headings, *waiting] if not widths else waiting, widths)


def _print_cells(rows: Sequence[Sequence[object]], least: Sequence[int] = ()) -> list[int]:
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    widths = [max(width, least[column] if least else 0) for column, width in enumerate(widths)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return widths


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns; nothing at all for no rows. Control characters from the tables don't reach the terminal."""
    if not rows:
        return
    _print_cells([headings, *rows])


def printable(text: str) -> str:
    """``text`` with what a terminal would obey made visible."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def print_pairs(*pairs: tuple[str, str]) -> None:
    """Names and values, one below the other; a name that repeats stands once."""
    width = max(len(name) for name, _ in pairs)
    last = ""
    for name, value in pairs:
        print(f"{'' if name == last else name:<{width}}  {printable(value)}".rstrip())
        last = name
