"""How much a client, its network and a login may do in a minute, and how many sessions there are, over all workers.

Invariant: who is over a limit is put off, never refused for good.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import Reply, TryLater
from posthouse.config import reception
from posthouse.message.address import lookup_key
from posthouse.runtime.counters import SESSIONS, Counters, Counts
from posthouse.services.guard import units
from posthouse.services.networks import is_in

NETWORK_FACTOR = 5
"""How many times a client's limit its network has."""
WINDOW_SECONDS = 60
_CONNECTIONS, _MESSAGES, _RECIPIENTS = 0, 1, 2
_ALL = "all"


class Rates:
    """The rates of one process; ``counters`` are every process's."""

    def __init__(self, limits: reception.Rates, counters: Counters, clock: Clock | None = None) -> None:
        self._limits = limits
        self._counters = counters
        self._clock = clock or SystemClock()

    @contextmanager
    def session(self, client: str) -> Iterator[None]:
        """While a session lasts. Raises ``TryLater`` with a 421 where there are too many, or they come too fast."""
        names = self._names(client, "")
        window = self._window()
        limits = self._limits
        self._check(names, window, "connections", limits.connections_per_minute, 421)
        self._check(names, window, "sessions", limits.sessions_per_client, 421)
        everybody = self._counters.total(_ALL, window).sessions
        if limits.sessions and everybody >= limits.sessions:
            raise TryLater(
                f"{everybody} sessions in all", Reply(421, "4.3.2", "Too many connections, try again later")
            )
        for name, _ in names:
            self._counters.add(name, _CONNECTIONS, 1, window)
        counted = [*(name for name, _ in names), _ALL]
        for name in counted:
            self._counters.add(name, SESSIONS, 1, window)
        try:
            yield
        finally:
            for name in counted:
                self._counters.add(name, SESSIONS, -1, self._window())

    def message(self, client: str, login: str) -> None:
        """Count a message. Raises ``TryLater`` where there were too many."""
        self._count(client, login, _MESSAGES, "messages", self._limits.messages_per_minute)

    def recipient(self, client: str, login: str) -> None:
        """Count a recipient. Raises ``TryLater`` where there were too many."""
        self._count(client, login, _RECIPIENTS, "recipients", self._limits.recipients_per_minute)

    def _count(self, client: str, login: str, kind: int, what: str, limit: int) -> None:
        if not limit:
            return
        names, window = self._names(client, login), self._window()
        self._check(names, window, what, limit, 450)
        for name, _ in names:
            self._counters.add(name, kind, 1, window)

    def _check(self, names: list[tuple[str, int]], window: int, what: str, limit: int, code: int) -> None:
        for name, factor in names if limit else ():
            counts: Counts = self._counters.total(name, window)
            found = getattr(counts, what)
            if found >= limit * factor:
                status = "4.7.0" if code == 421 else "4.7.1"
                reply = Reply(code, status, f"Too many {what} from you, please try again in a minute")
                raise TryLater(f"{name[2:]}: {found} {what}, {limit * factor} allowed", reply)

    def _names(self, client: str, login: str) -> list[tuple[str, int]]:
        """What is counted under, and how many times the limit that has."""
        if client == "unix" or is_in(client, self._limits.exempt_networks):
            return []
        address, network = units(client)
        names = [(f"a {address}", 1), (f"n {network}", NETWORK_FACTOR)]
        return [*names, (f"u {lookup_key(login)}", 1)] if login else names

    def _window(self) -> int:
        return int(self._clock.monotonic() // WINDOW_SECONDS)
