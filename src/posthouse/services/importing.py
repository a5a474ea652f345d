"""Taking over accounts and addresses from a CSV file, a million of them if need be.

A file is read twice: first every line is checked, against the rules, the other lines and the database, and nothing
is written if one is wrong (unless asked to go on without those); then it is stored, a batch in each transaction.
What was interrupted is finished by importing it again with ``Existing.SKIP``.

Invariant: memory does not grow with the file: what has to be remembered of lines is in a temporary database.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.services.changes import NotChanged, make
from posthouse.services.csvlines import WHOLE_FILE, Line, Lines, Problem

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

SHOWN_PROBLEMS = 20
T = TypeVar("T", bound="Parsed")
Progress = Callable[[str, int], None]
"""Told what is being done and how many lines have been so far."""


class Existing(Enum):
    """What to do with a line whose row is there already."""

    REFUSE = "refuse"
    SKIP = "skip"
    UPDATE = "update"


class ImportRefused(NotChanged):
    """Lines are wrong: ``problems`` are the first, ``count`` how many there are."""

    def __init__(self, problems: Sequence[Problem], count: int) -> None:
        super().__init__("nothing was imported" + (f": {count} of the file's lines can't be" if count else ""))
        self.problems = tuple(problems)
        self.count = count


@dataclass(slots=True)
class Imported:
    """How many lines became rows, changed rows, were left out because they exist, or because they are wrong."""

    added: int = 0
    updated: int = 0
    skipped: int = 0
    wrong: int = 0
    problems: tuple[Problem, ...] = ()


class Parsed(Protocol):
    """A line that was understood."""

    @property
    def number(self) -> int: ...


class Importer(Protocol[T]):
    """How the lines of one table are understood, checked and stored."""

    @property
    def name(self) -> str:
        """What is imported, for the audit."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that a file may have."""
        ...

    @property
    def required(self) -> tuple[str, ...]:
        """Those that a file must have."""
        ...

    @property
    def batch_lines(self) -> int:
        """How many lines are stored in one transaction."""
        ...

    def begin(self, columns: Sequence[str]) -> None:
        """Which columns the file has. Raises ``NotChanged``."""
        ...

    def parse(self, line: Line) -> T:
        """Raises ``NotChanged``."""
        ...

    async def check(self, tables: "Tables", lines: Sequence[T]) -> list[Problem]:
        """What is wrong with these beside the others and the database."""
        ...

    async def check_all(self, directory: Directory) -> list[Problem]:
        """What is wrong once all lines have been seen."""
        ...

    async def prepare(self, lines: Sequence[T]) -> None:
        """What takes time and needs no database."""
        ...

    async def store(self, tables: "Tables", lines: Sequence[T]) -> Imported:
        """Write them."""
        ...

    def close(self) -> None:
        """Forget what was remembered."""
        ...


async def run(
    directory: Directory,
    importer: Importer[T],
    file: TextIO,
    *,
    actor: Actor,
    source: str,
    go_on: bool = False,
    progress: Progress = lambda _what, _lines: None,
) -> Imported:
    """Import ``file``, which can be read twice; ``source`` names it in the audit. Raises ``NotChanged``.

    ``go_on``: leave out the lines that are wrong. Raises ``ImportRefused`` otherwise.
    """
    try:
        return await _run(directory, importer, file, actor, source, go_on, progress)
    finally:
        importer.close()


async def _run(
    directory: Directory,
    importer: Importer[T],
    file: TextIO,
    actor: Actor,
    source: str,
    go_on: bool,
    progress: Progress,
) -> Imported:
    wrong = await _check(directory, importer, file, progress)
    if wrong and (not go_on or WHOLE_FILE in wrong):
        raise ImportRefused(_first(wrong), len(wrong) - (WHOLE_FILE in wrong))
    done = Imported(wrong=len(wrong), problems=_first(wrong))
    file.seek(0)
    seen = 0
    for lines, _ in Lines(file, importer.columns, importer.required).batches(importer.batch_lines):
        parsed = [importer.parse(line) for line in lines if line.number not in wrong]
        await importer.prepare(parsed)
        if parsed:
            stored = await _store(directory, importer, parsed, actor, source)
            done.added += stored.added
            done.updated += stored.updated
            done.skipped += stored.skipped
        seen += len(lines)
        progress("imported", seen)
    return done


async def _check(directory: Directory, importer: Importer[T], file: TextIO, progress: Progress) -> dict[int, str]:
    """Lines that are wrong, and why."""
    file.seek(0)
    source = Lines(file, importer.columns, importer.required)
    importer.begin(source.columns)
    wrong: dict[int, str] = {}
    seen = 0
    for lines, unreadable in source.batches(importer.batch_lines):
        good, bad = _parse(importer, lines)
        _note(wrong, [*unreadable, *bad])

        async def check(tables: "Tables", good: Sequence[T] = good) -> list[Problem]:
            return await importer.check(tables, good)

        _note(wrong, await directory.read(check))
        seen += len(lines)
        progress("checked", seen)
    _note(wrong, await importer.check_all(directory))
    return wrong


def _parse(importer: Importer[T], lines: Iterable[Line]) -> tuple[list[T], list[Problem]]:
    good: list[T] = []
    bad: list[Problem] = []
    for line in lines:
        try:
            good.append(importer.parse(line))
        except NotChanged as error:
            bad.append(Problem(line.number, error.reason))
    return good, bad


def _note(wrong: dict[int, str], problems: Iterable[Problem]) -> None:
    for problem in problems:
        wrong.setdefault(problem.number, problem.text if len(wrong) < 10 * SHOWN_PROBLEMS else "")


def _first(wrong: dict[int, str]) -> tuple[Problem, ...]:
    return tuple(Problem(number, wrong[number]) for number in sorted(wrong) if wrong[number])[:SHOWN_PROBLEMS]


async def _store(
    directory: Directory, importer: Importer[T], lines: Sequence[T], actor: Actor, source: str
) -> Imported:
    async def work(tables: "Tables") -> Imported:
        stored = await importer.store(tables, lines)
        span = f"lines {lines[0].number}-{lines[-1].number}"
        counts = f"{stored.added} added, {stored.updated} updated, {stored.skipped} there already"
        await tables.audit(f"import {importer.name}", source, f"{span}: {counts}")
        return stored

    return await make(directory, actor, work)


class Remembered:
    """What lines have had before, on disk: each value of a kind belongs to the first line that had it."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE seen (kind TEXT, value TEXT, line INTEGER, PRIMARY KEY (kind, value)) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def add(self, kind: str, values: Sequence[tuple[str, int]]) -> dict[int, int]:
        """Remember values and their lines; lines whose value another had before, and which."""
        before = self._database.total_changes
        rows = [(kind, value, line) for value, line in values]
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", rows)
        if self._database.total_changes - before == len(rows):
            return {}
        owners = self.lines(kind, [value for value, _ in values])
        return {line: owners[value] for value, line in values if owners[value] != line}

    def lines(self, kind: str, values: Iterable[str]) -> dict[str, int]:
        """The lines that have these values."""
        ask = "SELECT line FROM seen WHERE kind = ? AND value = ?"
        found: dict[str, int] = {}
        for value in values:
            if row := self._database.execute(ask, (kind, value)).fetchone():
                found[value] = row[0]
        return found

    def close(self) -> None:
        self._database.close()
