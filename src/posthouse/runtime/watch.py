"""What other processes do to a directory, noticed through inotify.

One inotify descriptor serves the whole process; directories are counted, so that a thousand sessions on one
mailbox cost one watch. A watch is a hint, never the truth: when the kernel drops events every subscriber is
called, and whoever depends on a change must find it by looking.
"""

import asyncio
import contextlib
from collections.abc import Callable

from asyncinotify import Inotify, Mask
from asyncinotify import Watch as InotifyWatch

from posthouse.runtime.log import log

Named = Callable[[str | None], None]
"""Is told the name of what has come into a directory; None: some names were lost."""
Only = Callable[[str], bool]
"""Whether a change of what has this name is of interest."""
ARRIVALS = Mask.CREATE | Mask.MOVED_TO
EVENTS = Mask.CREATE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.CLOSE_WRITE | Mask.ONLYDIR


class Subscription:
    """One callback for one directory, until it is cancelled."""

    __slots__ = ("_watch", "callback", "directory", "named", "only")

    def __init__(
        self, watch: "Watch", directory: str, callback: Callable[[], None], named: Named | None, only: Only | None
    ) -> None:
        self._watch = watch
        self.only = only
        self.directory = directory
        self.callback = callback
        self.named = named

    def cancel(self) -> None:
        self._watch.remove(self)


class Watch:
    """All the directories this process watches. Callbacks run on the loop and must not block."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._task: asyncio.Task[None] | None = None
        self._watches: dict[str, InotifyWatch] = {}
        self._subscriptions: dict[str, set[Subscription]] = {}

    def subscribe(
        self, directory: str, callback: Callable[[], None], named: Named | None = None, only: Only | None = None
    ) -> Subscription:
        """Call ``callback`` after every change in ``directory``. Raises ``OSError`` where it can't be watched.

        With ``named`` that is called instead for what has come, with its name. ``only``: for no other names.
        """
        if self._inotify is None:
            self._inotify = Inotify()
            self._task = asyncio.get_running_loop().create_task(self._pump(self._inotify))
        if directory not in self._watches:
            self._watches[directory] = self._inotify.add_watch(directory, EVENTS)
        subscription = Subscription(self, directory, callback, named, only)
        self._subscriptions.setdefault(directory, set()).add(subscription)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        remaining = self._subscriptions.get(subscription.directory, set())
        remaining.discard(subscription)
        if remaining:
            return
        self._subscriptions.pop(subscription.directory, None)
        watch = self._watches.pop(subscription.directory, None)
        if watch is not None and self._inotify is not None:
            # The directory may have gone, and its watch with it.
            with contextlib.suppress(OSError, KeyError, ValueError):
                self._inotify.rm_watch(watch)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._inotify is not None:
            self._inotify.close()
        self._inotify = None
        self._watches.clear()
        self._subscriptions.clear()

    async def _pump(self, inotify: Inotify) -> None:
        async for event in inotify:
            if event.mask & Mask.Q_OVERFLOW:
                for directory in list(self._subscriptions):
                    self._announce(directory, None, is_arrival=True)
            elif event.watch is not None:
                directory = str(event.watch.path)
                if event.mask & Mask.IGNORED:
                    self._watches.pop(directory, None)
                name = str(event.name) if event.name is not None else None
                self._announce(directory, name, is_arrival=bool(event.mask & (ARRIVALS | Mask.IGNORED)))

    def _announce(self, directory: str, name: str | None, *, is_arrival: bool) -> None:
        for subscription in tuple(self._subscriptions.get(directory, ())):
            if subscription.only is not None and name is not None and not subscription.only(name):
                continue
            try:
                if subscription.named is None:
                    subscription.callback()
                elif is_arrival:
                    subscription.named(name)
            except Exception:  # noqa: BLE001 - one subscriber's bug must not silence the others
                log.exception("watch-callback-failed", directory=directory)
