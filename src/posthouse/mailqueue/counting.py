"""What the queue adds to the counters: attempts and their outcomes, by courier and by group of destinations.

Where mail goes is for others to choose, so few destinations have a name here: the first that have had many attempts.
All others together are ``other``; what has no destination elsewhere is ``here``.
"""

from collections import Counter

from posthouse.mailqueue.courier import Delivered, Outcome, Route
from posthouse.runtime.measures import ATTEMPT_SECONDS, DELIVERIES, DELIVERY_REASONS, QUEUE_SECONDS, reason_of

GROUPS = 32
"""Most destinations that are told apart."""
ENOUGH = 100
"""Recipients that it takes to be told apart."""
_CANDIDATES = 1_000
OTHER = "other"
HERE = "here"


class Groups:
    """Which destinations have a name. Those that had one before this process was started keep it."""

    def __init__(self, named: set[str]) -> None:
        self.named = named - {OTHER, HERE}
        self._candidates: Counter[str] = Counter()

    def of(self, destination: str) -> str:
        """The group's name; a recipient's attempt is counted by asking."""
        if not destination:
            return HERE
        if destination in self.named:
            return destination
        if len(self.named) >= GROUPS:
            return OTHER
        if destination not in self._candidates and len(self._candidates) >= _CANDIDATES:
            # Who comes often comes again: those that have come once or so go.
            self._candidates = Counter(dict(self._candidates.most_common(_CANDIDATES // 2)))
        self._candidates[destination] += 1
        if self._candidates[destination] >= ENOUGH:
            del self._candidates[destination]
            self.named.add(destination)
        return OTHER


class QueueCounts:
    """The counts of the queue's process."""

    def __init__(self) -> None:
        self._groups = Groups({destination for _, destination, _ in DELIVERIES.series()})

    def outcome(self, route: Route, outcome: Outcome, waited_seconds: float) -> None:
        """One recipient's; ``waited_seconds``: since the message came in."""
        courier, result = route.courier or "none", type(outcome).__name__.lower()
        DELIVERIES.add(courier, self._groups.of(route.destination if route.courier else ""), result)
        if isinstance(outcome, Delivered):
            QUEUE_SECONDS.observe(waited_seconds, courier)
        else:
            DELIVERY_REASONS.add(courier, result, reason_of(outcome.reply))

    def attempt(self, route: Route, seconds: float) -> None:
        """One call of a courier."""
        destination = route.destination
        group = destination if destination in self._groups.named else OTHER if destination else HERE
        ATTEMPT_SECONDS.observe(seconds, route.courier, group)
