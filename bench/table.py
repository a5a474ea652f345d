"""The result: rows of figures for Posthouse and for its peer, and how many times better ours is."""

import statistics
from dataclasses import dataclass, field
from typing import Literal

Better = Literal["more", "less", ""]
COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured. ``better``: which way; empty for a figure that is only for information.

    ``target``: the ratio that we want to reach. ``goal``: the figure itself that we want, at least or at most.
    """

    name: str
    unit: str
    better: Better
    target: float | None = None
    goal: float | None = None


@dataclass(slots=True)
class Samples:
    """What the rounds gave for one row; a server that couldn't has no figures."""

    row: Row
    ours: list[float] = field(default_factory=list)
    peers: list[float] = field(default_factory=list)

    def ratio(self) -> float | None:
        """Above 1: Posthouse is better."""
        if not self.row.better or not self.ours or not self.peers:
            return None
        ours, peers = statistics.median(self.ours), statistics.median(self.peers)
        above, below = (ours, peers) if self.row.better == "more" else (peers, ours)
        return above / below if below else None


class Table:
    """Rows in the order in which they were first measured."""

    def __init__(self) -> None:
        self._sections: dict[str, dict[str, Samples]] = {}
        self._peers: dict[str, str] = {}

    def add(self, section: str, row: Row, figure: float, *, peer: str = "") -> None:
        """A figure of Posthouse, or of ``peer``."""
        if peer:
            self._peers[section] = peer
        samples = self._sections.setdefault(section, {}).setdefault(row.name, Samples(row))
        (samples.peers if peer else samples.ours).append(figure)

    def text(self) -> str:
        blocks: list[list[tuple[str, ...]]] = []
        for section, rows in self._sections.items():
            head = (section, "Posthouse", self._peers.get(section, "peer"), "ratio", "target")
            blocks.append([head, *(_cells(samples) for samples in rows.values())])
        lines = [line for block in blocks for line in block]
        widths = [max((len(line[column]) for line in lines), default=0) for column in range(COLUMNS)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        out: list[str] = []
        for block in blocks:
            head, *body = (_aligned(line, widths) for line in block)
            out += [head, rule, *body, ""]
        return "\n".join(out)

    def data(self) -> list[dict[str, object]]:
        """For a file: every sample, and the ratio of the medians."""
        return [
            {
                "section": section,
                "row": samples.row.name,
                "unit": samples.row.unit,
                "better": samples.row.better,
                "target": samples.row.target,
                "posthouse": samples.ours,
                "peer": samples.peers,
                "ratio": samples.ratio(),
            }
            for section, rows in self._sections.items()
            for samples in rows.values()
        ]


def _cells(samples: Samples) -> tuple[str, ...]:
    row, ratio = samples.row, samples.ratio()
    target = ""
    if row.target is not None:
        target = f">= {row.target:g}"
        if ratio is not None:
            target += " reached" if ratio >= row.target else " MISSED"
    elif row.goal is not None:
        sign, factor = (">=", 1) if row.better == "more" else ("<=", -1)
        is_reached = bool(samples.ours) and factor * statistics.median(samples.ours) >= factor * row.goal
        target = f"{sign} {row.goal:,.0f} {'reached' if is_reached else 'MISSED'}"
    return (
        f"{row.name}, {row.unit}",
        _figure(samples.ours),
        _figure(samples.peers),
        "" if ratio is None else f"{ratio:.2f}",
        target,
    )


def _figure(figures: list[float]) -> str:
    if not figures:
        return "-"
    median = statistics.median(figures)
    return f"{median:,.0f}" if median >= 100 else f"{median:.3g}"


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    first, *middle, last = line
    columns = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True))]
    return "  ".join([*columns, last]).rstrip()
