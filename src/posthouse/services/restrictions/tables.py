"""Access tables: files of keys and actions, one a line, as Postfix's access(5) has them.

Invariants:
  1. A look-up is a handful of look-ups in dictionaries, however large the table; no pattern is matched.
  2. They are read, and read anew, as ``services.textfiles`` says.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from posthouse.base.clock import Clock
from posthouse.message.address import lookup_key, split, split_extension
from posthouse.services.restrictions.actions import parse_action
from posthouse.services.textfiles import TableError, TextFiles, lines


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
    actions: dict[str, str] = {}
    for place, line in lines(path):
        _add(table, line.split(None, 1), actions, place)
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


class Tables(TextFiles[Table]):
    """The access tables of one process, each read when it is first asked."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(read, clock)
