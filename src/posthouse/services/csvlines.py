"""CSV files with a header line: read a batch at a time, each line with its number and what is wrong with it."""

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from posthouse.services.changes import NotChanged

MAX_FIELD = 10_000
NOT_UTF8 = "not UTF-8: save the file as UTF-8, or convert it ('iconv -f {} -t UTF-8')"
OPAQUE = frozenset({"clear", "password"})
"""Columns that are never shown and may have whatever somebody once typed."""
WHOLE_FILE = 0
"""The number of a line in problems that are none's in particular."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line's number, counted from 1 with the header, and its values by column."""

    number: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line."""

    number: int
    text: str


class Lines:
    """A file's lines after its header. Raises ``NotChanged`` for a header that can't be used.

    The file may be opened with ``surrogateescape``: what is not UTF-8 is a problem of its line.
    """

    def __init__(self, file: TextIO, known: Sequence[str], required: Sequence[str]) -> None:
        self._reader = csv.reader(file, strict=True)
        self._begun = 1
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise NotChanged(f"line 1: {self._described(error)}") from None
        whole = "".join(header)
        if _is_utf16(whole) or not _is_utf8(whole):
            raise NotChanged(NOT_UTF8.format("UTF-16" if _is_utf16(whole) else "LATIN1"))
        self.columns = tuple(name.strip().lower().removeprefix("\ufeff") for name in header)
        for name in self.columns:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"columns are {', '.join(known)}"
                raise NotChanged(f"line 1: {name!r} is not a column: {hint}")
        if missing := [name for name in required if name not in self.columns]:
            raise NotChanged(f"line 1: expected a header with the columns {', '.join(missing)}")
        if len(set(self.columns)) < len(self.columns):
            raise NotChanged("line 1: a column is there twice")

    def batches(self, size: int) -> Iterator[tuple[list[Line], list[Problem]]]:
        """``size`` lines at a time, and those that can't be read. Empty lines count for nothing."""
        lines: list[Line] = []
        problems: list[Problem] = []
        while (row := self._next(problems)) is not None:
            if len(row) != len(self.columns):
                if row:
                    text = f"{len(row)} columns, and the header has {len(self.columns)}"
                    problems.append(Problem(self._reader.line_num, text))
            elif text := self._unreadable(row):
                problems.append(Problem(self._reader.line_num, text))
            else:
                lines.append(Line(self._reader.line_num, dict(zip(self.columns, row, strict=True))))
            if len(lines) + len(problems) >= size:
                yield lines, problems
                lines, problems = [], []
        if lines or problems:
            yield lines, problems

    def _next(self, problems: list[Problem]) -> list[str] | None:
        while True:
            self._begun = self._reader.line_num + 1
            try:
                return next(self._reader, None)
            except csv.Error as error:
                problems.append(Problem(self._begun, self._described(error)))

    def _described(self, error: csv.Error) -> str:
        """What ``error`` means for who made the file; a quote that isn't closed takes what follows as its field."""
        text = str(error)
        if "end of data" in text:
            return 'a quote (") opens here and is not closed before the end of the file'
        if "field limit" in text:
            much = f"a field has more than {csv.field_size_limit()} characters"
            if self._begun == self._reader.line_num:
                return f"{much}: shorten it"
            return f'{much}, it goes on to line {self._reader.line_num}: close the quote (") that opens here'
        return f'{text}: a quote (") within a quoted field is written twice' if "expected after" in text else text

    def _unreadable(self, row: Sequence[str]) -> str:
        whole = "".join(row)
        if len(whole) > MAX_FIELD:
            is_one = self._begun == self._reader.line_num
            hint = "" if is_one else f'; it begins in line {self._begun}: is a quote (") not closed there?'
            return f"longer than {MAX_FIELD} characters{hint}"
        if whole.isprintable():
            return ""
        if not _is_utf8(whole):
            return NOT_UTF8.format("LATIN1")
        for name, value in zip(self.columns, row, strict=True):
            if "\0" in value or not (value.isprintable() or name in OPAQUE):
                return f"{name} has control characters"
        return ""


def _is_utf16(text: str) -> bool:
    """Whether the beginning of a file, decoded as UTF-8 with ``surrogateescape``, was UTF-16."""
    return text.startswith(("\udcff\udcfe", "\udcfe\udcff")) or "\0" in text[:2]


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
