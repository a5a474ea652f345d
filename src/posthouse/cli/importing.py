"""``posthouse import``: accounts and addresses from files."""

import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Annotated, Any, Literal, TextIO

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import actor, printable, with_directory
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.services.csvlines import WHOLE_FILE, Problem
from posthouse.services.import_accounts import AccountImporter
from posthouse.services.import_addresses import AddressImporter
from posthouse.services.importing import Existing, Imported, Importer, ImportRefused, Progress, run

app = terminal.noun("Take over accounts and addresses from files.")
_TOLD_SECONDS = 1.0
Table = Literal["accounts", "virtual", "alias", "transport", "relocated"]


@app.callback()
def choose() -> None:
    """Take over accounts and addresses from files."""


@app.command("csv")
def from_csv(
    file: Annotated[str, typer.Argument(help="The file, whose first line names its columns; - is standard input.")],
    table: Annotated[Table, typer.Option(help="What its lines are.")] = "accounts",
    existing: Annotated[
        Existing, typer.Option(help="What to do with lines whose row is there already.")
    ] = Existing.REFUSE,
    go_on: Annotated[bool, typer.Option("--continue", help="Leave out lines that are wrong.")] = False,
) -> None:
    """Import a CSV file; nothing is written if a line is wrong.

    Accounts have the columns email, name, quota, uid, gid, homedir, maildir, enabled, and clear (stored as it is,
    plain or a hash) or password (hashed first; slow); all but email may be missing. The other tables have key and
    destination.
    """
    try:
        done = with_directory(lambda directory, settings: _import(directory, settings, file, table, existing, go_on))
    except ImportRefused as error:
        _tell(error.problems, error.count)
        raise
    except KeyboardInterrupt:
        print("\n--existing skip imports the rest", end="", file=sys.stderr)
        raise
    _tell(done.problems, done.wrong)
    parts = [f"{done.added} added", f"{done.updated} updated", f"{done.skipped} there already"]
    print(", ".join(parts + ([f"{done.wrong} left out"] if done.wrong else [])))


async def _import(
    directory: Directory, settings: Settings, file: str, table: Table, existing: Existing, go_on: bool
) -> Imported:
    who = actor()
    with _opened(file) as lines, _progress() as tell:
        importer = _importer(settings, table, existing, who)
        return await run(directory, importer, lines, actor=who, source=file, go_on=go_on, progress=tell)


def _importer(settings: Settings, table: Table, existing: Existing, who: Actor) -> Importer[Any]:
    if table == "accounts":
        return AccountImporter(settings, who, existing)
    return AddressImporter(table, who, existing)


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    """The file, to be read more than once: what can be read only once, such as a pipe, is copied."""
    is_stdin = file == "-"
    with ExitStack() as opened:
        source: IO[bytes] = opened.enter_context(open(0 if is_stdin else file, "rb", closefd=not is_stdin))
        if is_stdin or not source.seekable():
            copy = opened.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(source, copy)
            source = copy
        yield io.TextIOWrapper(source, encoding="utf-8", errors="surrogateescape", newline="")


@contextmanager
def _progress() -> Iterator[Progress]:
    """Says on standard error how far it is: in place on a terminal, now and then in a file."""
    is_terminal = sys.stderr.isatty()
    begun = last = time.monotonic()

    def tell(what: str, lines: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= (_TOLD_SECONDS if is_terminal else 10 * _TOLD_SECONDS):
            last = now
            text = f"{what} {lines} lines in {now - begun:.0f} s"
            print(f"\r{text}" if is_terminal else text, end="" if is_terminal else "\n", file=sys.stderr, flush=True)

    yield tell
    if is_terminal and last > begun:
        print(file=sys.stderr)


def _tell(problems: tuple[Problem, ...], count: int) -> None:
    for problem in problems:
        where = "" if problem.number == WHOLE_FILE else f"line {problem.number}: "
        print(f"{where}{printable(problem.text)}", file=sys.stderr)
    if (more := count - sum(problem.number != WHOLE_FILE for problem in problems)) > 0:
        print(f"and {more} lines more", file=sys.stderr)
