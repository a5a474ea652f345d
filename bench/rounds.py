"""How two servers are compared: in turn, round by round, and never both under load at a time."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.servers import NotRunningError, Server
from bench.table import Row, Table

T = TypeVar("T", bound=Server)

Figures = list[tuple[Row, float]]


@dataclass(slots=True)
class Contest:
    """``sides``: Posthouse first, then its peer where there is one. ``notes``: what went wrong, for the end."""

    table: Table
    rounds: int
    is_quick: bool
    notes: list[str]

    def alternate(self, section: str, cell: str, sides: Sequence[T], measure: Callable[[T, int], Figures]) -> None:
        """Measure one cell on each side in turn. A side that fails in a round has no figure of it, and a note."""
        for number in range(self.rounds):
            for at, server in enumerate(sides):
                say(f"{section}: {cell}: round {number + 1} of {self.rounds}: {server.name}")
                # What an earlier measurement left to be written is not this one's burden.
                os.sync()
                try:
                    figures = measure(server, number)
                except (OSError, NotRunningError) as error:
                    self.note(f"{section}: {cell}: {server.name}: {error}")
                    continue
                for row, figure in figures:
                    self.table.add(section, row, figure, peer=server.name if at else "")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def say(text: str) -> None:
    """Progress, on standard error: a line that the next one overwrites on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)
