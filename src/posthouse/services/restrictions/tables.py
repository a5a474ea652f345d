"""Access tables: files of keys and actions, one a line, as Postfix's access(5) has them.

Invariants:
  1. A look-up is a handful of look-ups in dictionaries, however large the table; no pattern is matched.
  2. A file that changes is read anew within a second; while it can't be, its last good content counts.
  3. A line that is wrong is told with the file's name and its number, and nothing of that file counts.
"""

import asyncio
import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import Reply, TryLater
from posthouse.message.address import lookup_key, split, split_extension
from posthouse.runtime.log import log
from posthouse.services.restrictions.actions import parse_action

MAX_BYTES = 256 * 1024 * 1024
LOOK_SECONDS = 1.0
BROKEN = Reply(451, "4.3.5", "Server configuration problem")


class TableError(Exception):
    """A file that can't be used; the text says which line, and why."""


@dataclass(slots=True)
class Table:
    """What stands in a file: words, and networks by version and prefix length."""

    words: dict[str, str] = field(default_factory=dict[str, str])
    networks: dict[int, dict[int, dict[int, str]]] = field(default_factory=lambda: {4: {}, 6: {}})

    def client(self, name: str, address: str) -> str | None:
        """The action for a client: its name, the domains that is in, its address, the smallest network with it."""
        for key in (*_parents(name), address):
            if key in self.words:
                return self.words[key]
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return None
        number, width = int(parsed), parsed.max_prefixlen
        networks = self.networks[parsed.version]
        for length in sorted(networks, reverse=True):
            action = networks[length].get(number >> (width - length))
            if action is not None:
                return action
        return None

    def host(self, name: str) -> str | None:
        """The action for a host's name, or for the nearest domain that it is in."""
        return next((self.words[key] for key in _parents(name.lower()) if key in self.words), None)

    def address(self, address: str, delimiter: str) -> str | None:
        """The action for an e-mail address: itself, without its extension, its domains, its local part with @."""
        if not address:
            return self.words.get("<>")
        local, domain = split(lookup_key(address))
        plain = split_extension(local, delimiter)[0]
        locals_ = dict.fromkeys((local, plain))
        keys = [f"{one}@{domain}" for one in locals_] + list(_parents(domain)) + [f"{one}@" for one in locals_]
        return next((self.words[key] for key in keys if key in self.words), None)


def _parents(name: str) -> Iterator[str]:
    """``a.b.c``, ``b.c``, ``c``."""
    while name:
        yield name
        name = name.partition(".")[2]


def read(path: str) -> Table:
    """Read a file. Raises ``TableError``."""
    table = Table()
    try:
        if os.stat(path).st_size > MAX_BYTES:
            raise TableError(f"{path}: larger than {MAX_BYTES >> 20} MB")
        with open(path, encoding="utf-8") as file:
            actions: dict[str, str] = {}
            for number, line in enumerate(file, 1):
                words = line.split(None, 1)
                if words and not words[0].startswith("#"):
                    _add(table, words, actions, f"{path}:{number}")
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 at byte {error.start}") from None
    return table


def _add(table: Table, words: list[str], actions: dict[str, str], place: str) -> None:
    if len(words) < 2:
        raise TableError(f"{place}: {words[0]!r} has no action")
    key, action = words[0].lower(), words[1].strip()
    if action not in actions:
        try:
            parse_action(action)
        except ValueError as error:
            raise TableError(f"{place}: {error}") from None
        actions[action] = action
    if "/" not in key:
        # A leading dot is how others say "and all below it", which is what a domain means here anyhow.
        table.words.setdefault(_plain(key), actions[action])
        return
    try:
        network = ipaddress.ip_network(key)
    except ValueError as error:
        raise TableError(f"{place}: {error}") from None
    of_length = table.networks[network.version].setdefault(network.prefixlen, {})
    of_length.setdefault(int(network.network_address) >> (network.max_prefixlen - network.prefixlen), actions[action])


def _plain(key: str) -> str:
    if ":" in key or key[:1].isdigit():
        try:
            return str(ipaddress.ip_address(key.strip("[]")))
        except ValueError:
            pass
    return key.lstrip(".") if "@" not in key else key


class Tables:
    """The access tables of one process, each read when it is first asked."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._tables: dict[str, tuple[float, tuple[float, int], Table]] = {}
        self._reading = asyncio.Lock()

    async def table(self, path: str) -> Table:
        """The table as it is now. Raises ``TryLater`` for one that was never good."""
        known = self._tables.get(path)
        if known is not None and known[0] > self._clock.monotonic():
            return known[2]
        async with self._reading:
            return await self._current(path)

    async def _current(self, path: str) -> Table:
        known = self._tables.get(path)
        now = self._clock.monotonic()
        if known is not None and known[0] > now:
            return known[2]
        stamp = _stamp(path)
        if known is not None and stamp == known[1]:
            self._tables[path] = (now + LOOK_SECONDS, stamp, known[2])
            return known[2]
        try:
            table = await asyncio.to_thread(read, path)
        except TableError as error:
            if known is None:
                raise TryLater(str(error), BROKEN) from None
            log.warning("access-table-broken", reason=str(error), advice="what it had before still counts")
            table = known[2]
        self._tables[path] = (self._clock.monotonic() + LOOK_SECONDS, stamp, table)
        return table


def _stamp(path: str) -> tuple[float, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0.0, -1
    return found.st_mtime, found.st_size
