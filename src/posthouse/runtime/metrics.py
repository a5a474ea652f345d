"""Counters, gauges and histograms that all processes share: memory made before the fork, a region a process, no lock.

A region is a list of records that only grows: a series' name and labels, then its values, 64-bit floats. Its process
remembers where each of its series stands, so that counting is to look in a dictionary and add; whoever wants to know
reads all regions and adds them up (``exposition``).

Invariants:
  1. One process writes to a region, and one thread to a series. Each value is stored by one instruction, so that a
     reader in another process sees it before or after, never half.
  2. Memory is bounded: what does not fit into a region is not counted, and how often that happened is.
  3. What a process has counted stays when it dies, and whoever takes its region goes on from there: counters never go
     back. Its gauges end with it.
"""

import fcntl
import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

REGION_BYTES = 256 * 1024
"""Room for about 2,000 series; memory is only used as far as it is written to."""
_MAX_KEY_BYTES = 1024
_FLOAT = 8
_USED, _DROPPED, _WASTE, _HEADER = 0, 1, 2, 32
"""Places in a region's header: how far it is written, what did not fit, where that goes (as long as a histogram)."""


@dataclass(frozen=True, slots=True)
class Record:
    """A series as it stands in a region: its family's name, the labels' values, its numbers."""

    family: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    place: int


class Region:
    """One process's part of the memory."""

    def __init__(self, memory: "mmap.mmap | bytearray", start: int = 0, size: int = REGION_BYTES) -> None:
        self._bytes = memoryview(memory)[start : start + size]
        self.values = self._bytes.cast("d")
        self._adding = threading.Lock()
        if not self.values[_USED]:
            self.values[_USED] = _HEADER

    def records(self) -> Iterator[Record]:
        """What is in it, in the order in which it came there. Ends at what can't be a record."""
        values, place, end = self.values, _HEADER, min(int(self.values[_USED]), len(self.values))
        while place + 2 <= end:
            key_bytes, count = int(values[place]), int(values[place + 1])
            first = place + 2 + -(-key_bytes // _FLOAT)
            if not 0 < key_bytes <= _MAX_KEY_BYTES or not 0 < count < _HEADER or first + count > end:
                return
            start = (place + 2) * _FLOAT
            family, *labels = bytes(self._bytes[start : start + key_bytes]).decode("utf-8", "replace").split("\0")
            yield Record(family, tuple(labels), tuple(values[first : first + count]), first)
            place = first + count

    def add(self, family: str, labels: Sequence[str], count: int) -> int | None:
        """Room for a series of ``count`` values, all 0: the place of the first. None: it does not fit."""
        key = "\0".join((family, *[label.replace("\0", "?") for label in labels])).encode("utf-8", "replace")
        with self._adding:  # series that begin in two threads at once
            values, place = self.values, int(self.values[_USED])
            first = place + 2 + -(-len(key) // _FLOAT)
            if len(key) > _MAX_KEY_BYTES or first + count > len(values):
                values[_DROPPED] += 1
                return None
            start = (place + 2) * _FLOAT
            values[place], values[place + 1] = len(key), count
            self._bytes[start : start + len(key)] = key
            for number in range(first, first + count):
                values[number] = 0.0
            values[_USED] = first + count  # only now is there anything to see
            return first

    @property
    def dropped(self) -> float:
        """How often something was not counted because it did not fit."""
        return self.values[_DROPPED]

    def clear_gauges(self) -> None:
        """What its process had open, or knew, is so no more."""
        for record in self.records():
            if isinstance(FAMILIES.get(record.family), Gauge):
                self.values[record.place] = 0.0


class Memory:
    """All regions, made before the fork. A process has the region whose lock it holds; that ends with the process."""

    def __init__(self, regions: int, region_bytes: int = REGION_BYTES) -> None:
        self._descriptor = os.memfd_create("posthouse-metrics", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, regions * region_bytes)
        self._memory = mmap.mmap(self._descriptor, regions * region_bytes)
        self._regions = [Region(self._memory, number * region_bytes, region_bytes) for number in range(regions)]
        self._mine: int | None = None

    def claim(self) -> Region | None:
        """The first region that is nobody's, for this process from now on; None: there is none."""
        self._mine = next((number for number in range(len(self._regions)) if self._lock(number)), None)
        if self._mine is None:
            return None
        region = self._regions[self._mine]
        region.clear_gauges()
        return region

    def regions(self) -> list[Region]:
        """All of them; the gauges of processes that are gone are at 0."""
        for number, region in enumerate(self._regions):
            if number != self._mine and self._lock(number):
                region.clear_gauges()
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)
        return self._regions

    def _lock(self, number: int) -> bool:
        """Whether it was free, and is ours now. Such locks are a process's: a fork does not inherit them."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:
            return False
        return True


FAMILIES: dict[str, "Family"] = {}
"""Everything that is measured, by name."""


class _Here:
    """Where this process counts: in memory of its own, until it claims a region."""

    def __init__(self) -> None:
        self.region = Region(bytearray(REGION_BYTES))
        self.memory: Memory | None = None


_here = _Here()


class Family:
    """What is measured under one name: a series for each combination of ``labels``' values, which must be few."""

    kind = ""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), count: int = 1) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self.count = count
        FAMILIES[name] = self
        self.use(_here.region, {})

    def use(self, region: Region, places: dict[tuple[str, ...], int]) -> None:
        """Count there from now on; ``places``: the series that it has already."""
        self._region, self._places = region, places
        self._values = region.values

    def series(self) -> list[tuple[str, ...]]:
        """The labels of all series that this process counts."""
        return [*self._places]

    def _place(self, labels: tuple[str, ...]) -> int:
        """Of a series that is not known yet."""
        if len(labels) != len(self.labels):
            raise TypeError(f"{self.name} has the labels {self.labels}, not {labels}")
        place = self._region.add(self.name, labels, self.count)
        if place is None:
            return _WASTE
        self._places[labels] = place
        return place


class Counter(Family):
    """What only grows. Its name ends in ``_total``."""

    kind = "counter"

    def add(self, *labels: str, amount: float = 1.0) -> None:
        place = self._places.get(labels)
        if place is None:
            place = self._place(labels)
        self._values[place] += amount


class Gauge(Family):
    """What there is at the moment in this process; the sum over all processes is what counts."""

    kind = "gauge"

    def add(self, *labels: str, amount: float = 1.0) -> None:
        place = self._places.get(labels)
        if place is None:
            place = self._place(labels)
        self._values[place] += amount

    def set(self, value: float, *labels: str) -> None:
        place = self._places.get(labels)
        if place is None:
            place = self._place(labels)
        self._values[place] = value


class Histogram(Family):
    """How many observations there were up to each of ``bounds`` (ascending), and their sum.

    Its values are a count for each bound, of those that are above all of them, and the sum.
    """

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> None:
        assert len(bounds) + 2 < _HEADER - _WASTE, "the header has no room for more"
        self.bounds = tuple(bounds)
        super().__init__(name, text, labels, len(bounds) + 2)

    def observe(self, value: float, *labels: str) -> None:
        place = self._places.get(labels)
        if place is None:
            place = self._place(labels)
        values = self._values
        values[place + bisect_left(self.bounds, value)] += 1.0
        values[place + self.count - 1] += value


def share(memory: Memory) -> None:
    """The supervisor, before it forks: the processes to come will ``claim`` a region of it, as this one does now."""
    _here.memory = memory
    claim()


def claim() -> bool:
    """A process, once it is there: count in a region of its own. False: none is free, and what it counts is lost."""
    region = _here.memory.claim() if _here.memory is not None else None
    count_in(region or Region(bytearray(REGION_BYTES)))
    return region is not None


def count_in(region: Region) -> None:
    """Count there from now on."""
    places: dict[str, dict[tuple[str, ...], int]] = {name: {} for name in FAMILIES}
    for record in region.records():
        places.get(record.family, {})[record.labels] = record.place
    _here.region = region
    for name, family in FAMILIES.items():
        family.use(region, places[name])


def regions() -> list[Region]:
    """All that is there to be read."""
    return _here.memory.regions() if _here.memory is not None else [_here.region]
