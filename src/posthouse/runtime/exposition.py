"""What all processes have counted, as Prometheus reads it (text format 0.0.4), and as JSON.

A comment line with a family's help and one with its type, then a line for each series. Families that nothing has been
counted of yet are left out, but for those without labels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import msgspec

from posthouse.runtime.metrics import FAMILIES, Counter, Family, Histogram, Region

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DROPPED = "posthouse_metrics_dropped_total"


@dataclass(frozen=True, slots=True)
class Sample:
    """A line: ``suffix`` is what the family's name is followed by (``_bucket``)."""

    suffix: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A family with what was counted of it."""

    name: str
    type: str
    help: str
    samples: tuple[Sample, ...]


def collect(regions: Sequence[Region]) -> list[Measured]:
    """The sums over all regions, in the order in which families are defined."""
    sums: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for region in regions:
        for record in region.records():
            family = FAMILIES.get(record.family)
            if family is not None and (len(record.labels), len(record.values)) == (len(family.labels), family.count):
                so_far = sums.setdefault(record.family, {}).setdefault(record.labels, [0.0] * family.count)
                for number, value in enumerate(record.values):
                    so_far[number] += value
    found = [
        Measured(family.name, family.kind, family.text, tuple(_samples(family, series)))
        for family in FAMILIES.values()
        if (series := sums.get(family.name, {} if family.labels else {(): [0.0] * family.count}))
    ]
    dropped = sum(region.dropped for region in regions)
    text = "What was not counted because a process had too many series."
    return [*found, Measured(DROPPED, Counter.kind, text, (Sample("", {}, dropped),))]


def render(regions: Sequence[Region]) -> str:
    """The text for Prometheus."""
    return "".join(_lines(collect(regions)))


def render_json(regions: Sequence[Region]) -> bytes:
    """The same as a JSON array of families."""
    return msgspec.json.encode(collect(regions))


def _samples(family: Family, series: dict[tuple[str, ...], list[float]]) -> Iterator[Sample]:
    for values, numbers in sorted(series.items()):
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(family, Histogram):
            yield from _histogram(family, labels, numbers)
        else:
            yield Sample("", labels, numbers[0])


def _histogram(family: Histogram, labels: dict[str, str], numbers: list[float]) -> Iterator[Sample]:
    counts = list(accumulate(numbers[:-1]))
    for bound, count in zip((*map(_number, family.bounds), "+Inf"), counts, strict=True):
        yield Sample("_bucket", {**labels, "le": bound}, count)
    yield Sample("_sum", labels, numbers[-1])
    yield Sample("_count", labels, counts[-1])


def _lines(families: Iterable[Measured]) -> Iterator[str]:
    for family in families:
        yield f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.type}\n"
        for sample in family.samples:
            labels = ",".join([f'{name}="{_escaped(value, quote=True)}"' for name, value in sample.labels.items()])
            yield f"{family.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}\n"


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
