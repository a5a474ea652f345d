"""What a process remembers of the directory's answers.

Invariants:
  1. The weight of all entries together is bounded; the oldest go first.
  2. An entry whose time is over stays: while no database answers, it is still better than nothing.
  3. What was asked before ``drop`` is not kept after it: ``put`` takes the ``generation`` of when it was asked.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice
from typing import Any

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer. ``until`` is when its time is over, on the clock of whoever keeps it."""

    value: Any
    until: float
    weight: int


class Cache:
    """Answers by what was asked. ``most`` is the weight that all may have together."""

    def __init__(self, most: int) -> None:
        self.entries: dict[Hashable, Entry] = {}
        self.generation = 0
        self._most = most
        self._weight = 0

    def put(self, key: Hashable, entry: Entry, generation: int) -> None:
        """Keep an answer, unless everything was dropped since it was asked for."""
        if generation != self.generation or entry.weight > self._most:
            return
        if old := self.entries.pop(key, None):
            self._weight -= old.weight
        self.entries[key] = entry
        self._weight += entry.weight
        while self._weight > self._most:
            # Many at a time: a dict passes over all that was removed from its front when asked for its first.
            for oldest in tuple(islice(self.entries, len(self.entries) // 8 + 1)):
                self._weight -= self.entries.pop(oldest).weight

    def drop(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self._weight = 0
        self.generation += 1
