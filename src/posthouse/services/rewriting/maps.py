"""Maps of addresses: text files with a key and an address on each line, as Postfix's canonical(5) has them.

Keys are ``user+ext@domain``, ``user@domain``, ``@domain`` and ``@.domain`` (all below it), looked up in this order.
The value of a domain's key may be ``@domain``: the local part stays.
"""

from dataclasses import dataclass, field

from posthouse.base.errors import TryLater
from posthouse.message.address import is_domain, lookup_key, parse_path, split, split_extension, to_ascii
from posthouse.services.textfiles import BROKEN, TableError, lines

MAX_DEPTH = 10


@dataclass(slots=True)
class AddressMap:
    """What stands in a file."""

    path: str
    rows: dict[str, str] = field(default_factory=dict[str, str])

    def find(self, address: str, delimiter: str, *, keeps_extension: bool = False) -> str | None:
        """The address that this one is mapped to, or None. ``keeps_extension``: what a key without it has matched
        gets it again."""
        local, domain = split(lookup_key(address))
        if found := self.rows.get(f"{local}@{domain}"):
            return found
        plain, extension = split_extension(split(address)[0], delimiter)
        if extension is not None and (found := self.rows.get(f"{plain.lower()}@{domain}")):
            new_local, new_domain = split(found)
            return f"{new_local}{delimiter}{extension}@{new_domain}" if keeps_extension else found
        key = f"@{domain}"
        while key not in self.rows:
            domain = domain.partition(".")[2]
            if not domain:
                return None
            key = f"@.{domain}"
        found = self.rows[key]
        return f"{split(address)[0]}{found}" if found.startswith("@") else found

    def canonical(self, address: str, delimiter: str) -> str:
        """What an address is in the end: looked up again until it is mapped to itself, or not at all. Raises
        ``TryLater`` where that has no end."""
        now = address
        for _ in range(MAX_DEPTH):
            new = self.find(now, delimiter, keeps_extension=True)
            if new is None or lookup_key(new) == lookup_key(now):
                return new or now
            now = new
        raise TryLater(f"{self.path}: {address} goes round in circles", BROKEN)


def read_map(path: str) -> AddressMap:
    """Read a file. Raises ``TableError``."""
    found = AddressMap(path)
    for place, line in lines(path):
        words = line.split()
        if len(words) != 2:
            raise TableError(f"{place}: expected a key and an address")
        key, value = words
        found.rows.setdefault(_key(key, place), _value(key, value, place))
    return found


def _key(key: str, place: str) -> str:
    local, domain = split(lookup_key(key))
    if "@" not in key or not is_domain(domain.removeprefix(".")) or (local and domain.startswith(".")):
        raise TableError(f"{place}: {key!r} is none of 'user@domain', '@domain', '@.domain'")
    return f"{local}@{domain}"


def _value(key: str, value: str, place: str) -> str:
    try:
        if value.startswith("@") and key.startswith("@"):
            domain = to_ascii(value[1:])
            if is_domain(domain):
                return f"@{domain}"
        return parse_path(value)
    except ValueError:
        pass
    raise TableError(f"{place}: {value!r} is no address")
