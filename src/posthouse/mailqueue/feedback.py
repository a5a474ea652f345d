"""What deliveries teach about a destination: how many at once, how fast, and when to leave it alone. Pure.

A window says how many messages go to it at once. It begins at 5, grows by 1/window with each message that is taken
(so by one each time that as many as fit in it have been), and is halved when the destination doesn't answer or says
421. What was under way when that happened says nothing new and does not halve it again.

A destination that fails without having taken anything since it last failed is left alone: for the minimum wait,
doubled each time up to the maximum wait. Then one message tries whether it is there again.
"""

from dataclasses import dataclass

INITIAL_WINDOW = 5.0


@dataclass(slots=True)
class Feedback:
    """One destination. Times are seconds since the epoch.

    ``epoch``: how often it has failed; jobs remember in which they began. ``answers``: it has since it last failed.
    ``silences``: pauses in a row. ``not_before``: when the next message may go, by its rate.
    """

    window: float
    epoch: int = 0
    answers: bool = False
    silences: int = 0
    paused_until: float = 0.0
    not_before: float = 0.0

    @property
    def at_once(self) -> int:
        return max(int(self.window), 1)

    def taken(self, limit: int) -> None:
        """A message was taken, or refused for good: it has room for more."""
        self.answered()
        self.window = min(self.window + 1.0 / self.window, float(limit))

    def answered(self) -> None:
        """It is there; whether it has room is not known."""
        self.answers = True
        self.silences = 0
        self.paused_until = 0.0

    def failed(self, epoch: int, now: float, minimum: float, maximum: float) -> bool:
        """No answer, or 421, to what began in ``epoch``; whether it is paused now, and was not before."""
        if epoch != self.epoch:
            return False
        self.epoch += 1
        if self.answers:
            self.answers = False
            self.window = max(self.window / 2.0, 1.0)
            return False
        self.window = 1.0
        self.paused_until = now + min(minimum * 2.0 ** min(self.silences, 32), maximum)
        self.silences += 1
        return True

    def started(self, now: float, messages_per_minute: int) -> None:
        """A message is on its way; with a rate the next one follows no sooner than that allows."""
        if messages_per_minute:
            self.not_before = max(now, self.not_before) + 60.0 / messages_per_minute

    def free_at(self) -> float:
        """When the next message may start, as far as pause and rate go."""
        return max(self.paused_until, self.not_before)

    def shift(self, seconds: float) -> None:
        """The clock was set by so much."""
        self.paused_until += seconds if self.paused_until else 0.0
        self.not_before += seconds if self.not_before else 0.0
