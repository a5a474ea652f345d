"""The clock, passed in so that what depends on time can be tested without waiting."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

JUMP = timedelta(minutes=1)
"""A difference between two clocks that is told."""


class Clock(Protocol):
    """Time of day and time elapsed."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The time that a machine was suspended for has passed, too."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(_SINCE_BOOT)


class SteadyClock:
    """The time of day for lifetimes that are counted in days: where the machine's clock is set forward it goes twice
    as fast as time until it has caught up, so that nothing ages by more than twice what has passed.

    Back it goes at once: what has arrived since must not be older than it is.
    """

    def __init__(self, clock: Clock, *, tell: Callable[[float], None] = lambda _: None) -> None:
        """``tell`` hears of each jump, in seconds, of more than a minute."""
        self._clock = clock
        self._tell = tell
        self._at = clock.monotonic()
        self._shown = self._wall = clock.now()

    def now(self) -> datetime:
        wall, at = self._clock.now(), self._clock.monotonic()
        passed = timedelta(seconds=max(at - self._at, 0.0))
        jump = wall - self._wall - passed
        if abs(jump) > JUMP:
            self._tell(jump.total_seconds())
        self._shown = min(wall, self._shown + passed * 2)
        self._wall, self._at = wall, at
        return self._shown

    def monotonic(self) -> float:
        return self._clock.monotonic()


class FakeClock:
    """A clock that stands still until it is told to move; for tests and simulations."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def jump(self, seconds: float) -> None:
        """Set the time of day, as somebody does whose clock is wrong."""
        self._now += timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed += seconds
