"""The steps from an address to its destinations, whatever database has the rows.

The steps: ``virtual`` (recursively), ``relocated``, ``transport``, then the account in ``users`` or the local
``alias`` table, an account and a Unix user, else no such mailbox. As in Postfix, an extension that did not help to
find a row is kept on the row's destinations, but not on a catch-all's; a transport without nexthop leads to the
recipient's domain, past ``relayhost``.

Mail for ``postmaster`` of a hosted domain that leads nowhere goes to the host's own postmaster (RFC 5321
§4.5.1): the local alias ``postmaster``, for which the operator has to name somebody.

Invariants:
  1. An address is looked up once in a resolution: work and results are bounded, whatever the rows say.
  2. What is wrong with the rows is our trouble, ``TryLater``; ``Refused`` only where the tables say no.
  3. A resolution has destinations, or it is not returned.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, assert_never

from posthouse.base.errors import Refused, Reply
from posthouse.directory import destinations, transports
from posthouse.directory.destinations import Command, File, Include
from posthouse.directory.lookups import BrokenAliases, BrokenRow, Keys, Rows, TooManyRows
from posthouse.directory.model import (
    Account,
    Destination,
    Discard,
    Failure,
    Resolution,
    Step,
    ToCommand,
    ToFile,
    ToHost,
    ToMailbox,
    ToPipe,
    ToUnixUser,
)
from posthouse.directory.transports import TO_HOSTS, Route, Site
from posthouse.message.address import lookup_key, parse_path, split, split_extension

if TYPE_CHECKING:
    from posthouse.directory.resolution import Resolver

OWNER = "owner-"
"""A local alias of this name is who mail to the list comes from."""
MAX_RESULTS = 1_000
MAX_DEPTH = 100
MAX_LOOKUPS = 10_000
"""Addresses that one resolution may look up; far more than lists of 1,000 need."""
AT_A_STRETCH = 64
"""Addresses that are looked up before others may go on: a database that is a file answers without waiting."""

BAD_ADDRESS = Reply(553, "5.1.3", "Bad recipient address")
UNKNOWN = Reply(550, "5.1.1", "No such mailbox here")
DISABLED = Reply(550, "5.2.1", "This domain is disabled")


@dataclass(frozen=True, slots=True)
class _Node:
    """An address that is met while expanding, as it was written, through how many others, and on whose list."""

    address: str
    key: str
    depth: int = 0
    owner: str = ""


@dataclass(slots=True)
class Expansion:
    """One resolution on its way: a depth-first walk over what addresses lead to."""

    resolver: "Resolver"
    steps: list[Step] = field(default_factory=list[Step])
    asked_host: bool = False
    _rows: dict[str, Rows] = field(default_factory=dict[str, Rows])  # asked for before their turn
    _pending: list[_Node] = field(default_factory=list[_Node])
    _seen: set[str] = field(default_factory=set[str])
    _leads_to: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # without those that end here
    _sites: dict[str, Site] = field(default_factory=dict[str, Site])
    _destinations: list[Destination] = field(default_factory=list[Destination])
    _failures: list[Failure] = field(default_factory=list[Failure])

    async def run(self, address: str) -> Resolution:
        address = self.resolver.qualified(address)
        key = lookup_key(address)
        if not all(split(key)):
            raise Refused(BAD_ADDRESS, f"{address[:80]!r} is not an address")
        self._pending.append(_Node(address, key))
        while self._pending:
            node = self._pending.pop()
            if node.key in self._seen:
                continue
            self._seen.add(node.key)
            self._check_limits(node, key)
            if len(self._seen) % AT_A_STRETCH == 0:
                await asyncio.sleep(0)
            try:
                await self._settle(node)
            except Refused as error:
                self._failures.append(Failure(node.address, error.reply, error.reason))
        self._check_for_loop()
        if not self._destinations:
            first = self._failures[0]
            raise Refused(first.reply, first.reason)
        origin = self._sites[split(key)[1]]
        relay = not origin.is_hosted and not origin.handed_on
        return Resolution(tuple(self._destinations), relay, tuple(self._failures))

    async def _find(self, node: _Node, keys: Keys) -> Rows:
        """The rows for one address; those that are next are asked for together with it where that saves time."""
        lookups = self.resolver.lookups
        if lookups.at_once == 1:
            return await lookups.find((keys,))
        if node.key in self._rows:
            return self._rows.pop(node.key)
        together = {node.key: keys}
        for other in reversed(self._pending):
            if len(together) == lookups.at_once:
                break
            if other.key not in self._seen and other.key not in self._rows:
                together[other.key] = self.resolver.keys(other.key)
        try:
            rows = await lookups.find(tuple(together.values()))
        except TooManyRows:
            if len(together) == 1:
                raise
            return await lookups.find((keys,))
        self._rows |= dict.fromkeys(together, rows)
        return self._rows.pop(node.key)

    def _site(self, keys: Keys, rows: Rows) -> Site:
        domain = keys.names[0]
        if domain not in self._sites:
            self._sites[domain] = transports.site(keys.names, rows, self.resolver.own_names)
        return self._sites[domain]

    def _note(self, number: int, table: str, node: _Node, text: str) -> None:
        self.steps.append(Step(number, table, node.address, text))

    def _check_for_loop(self) -> None:
        """A circle is a loop unless an address on it leads to itself as well, as those do who copy each other."""
        if len(self._leads_to) < 2:
            return
        try:
            TopologicalSorter(self._leads_to).prepare()
        except CycleError as error:
            raise BrokenAliases(f"aliases form a loop: {' -> '.join(reversed(error.args[1]))}") from None

    def _check_limits(self, node: _Node, origin: str) -> None:
        if node.depth > MAX_DEPTH:
            raise BrokenAliases(f"{origin}: aliases are nested deeper than {MAX_DEPTH}")
        if 1 + len(self._destinations) + len(self._failures) + len(self._pending) > MAX_RESULTS:
            raise BrokenAliases(f"{origin}: aliases expand to more than {MAX_RESULTS} addresses")
        if len(self._seen) > MAX_LOOKUPS:
            raise BrokenAliases(f"{origin}: aliases lead through more than {MAX_LOOKUPS} addresses")

    async def _settle(self, node: _Node) -> None:
        keys = self.resolver.keys(node.key)
        rows = await self._find(node, keys)
        site = self._site(keys, rows)
        if site.is_disabled:
            self._note(3, "domains", node, f"{keys.names[0]} is disabled")
            raise Refused(DISABLED, f"{keys.names[0]} is disabled")
        if self._expand_virtual(node, keys, rows):
            return
        self._check_relocated(node, keys, rows)
        route = self._route(node, keys, rows, site)
        if not await self._deliver(node, keys, rows, route):
            self._fall_back(node, site, disabled=any(key in rows.accounts for key in keys.addresses()))

    # Step 1

    def _expand_virtual(self, node: _Node, keys: Keys, rows: Rows) -> bool:
        """Put what ``virtual`` has for the address on the list; whether that is all there is to do."""
        for key in keys.users():
            if texts := _texts("virtual", key, rows.virtual):
                return self._expand(node, "virtual", key, self._targets(node, key, texts))
        texts = _texts("virtual", keys.catchall, rows.virtual)
        if not texts:
            self._note(1, "virtual", node, "no row")
            return False
        if not self.resolver.rules.catchall_first and _enabled(keys, rows):
            self._note(1, "virtual", node, f"an account, so the catch-all {keys.catchall} does not apply")
            return False
        return self._expand(node, "virtual", keys.catchall, self._targets(node, keys.catchall, texts))

    def _targets(self, node: _Node, key: str, texts: Iterable[str]) -> list[str]:
        """The addresses that a row of ``virtual`` stands for."""
        local = split(node.address)[0]
        extension = None
        if not key.startswith("@") and split_extension(split(key)[0], self.resolver.rules.delimiter)[1] is None:
            extension = split_extension(local, self.resolver.rules.delimiter)[1]
        targets: list[str] = []
        for text in texts:
            if text.startswith("@"):
                targets.append(local + text)
            elif extension is None or text.startswith('"'):
                targets.append(text)
            else:
                user, at, domain = text.partition("@")
                targets.append(f"{user}{self.resolver.rules.delimiter}{extension}{at}{domain}")
        return targets

    def _expand(self, node: _Node, table: str, key: str, targets: list[str], owner: str = "") -> bool:
        """Put ``targets`` on the list. False where the address itself is among them: it has arrived."""
        children = [self._child(node, table, key, target, owner) for target in targets]
        leads_to_itself = any(child.key == node.key for child in children)
        if not leads_to_itself:
            self._leads_to[node.key] = [child.key for child in children]
        self._pending.extend(child for child in reversed(children) if child.key != node.key)
        shown = ", ".join(child.address for child in children)
        self._note(5 if table == "alias" else 1, table, node, f"{key} -> {shown}" + " (itself)" * leads_to_itself)
        return not leads_to_itself

    def _child(self, node: _Node, table: str, key: str, target: str, owner: str) -> _Node:
        try:
            # Lists' and forwarders' rewritten addresses are longer than a mailbox's name may be.
            address = parse_path(self.resolver.qualified(target), utf8=True, allow_empty=True)
        except ValueError as error:
            raise BrokenRow(table, key, f"no usable destination {target[:80]!r}: {error}") from None
        return _Node(address, lookup_key(address), node.depth + 1, owner or node.owner)

    # Steps 2 and 3

    def _check_relocated(self, node: _Node, keys: Keys, rows: Rows) -> None:
        for key in (*keys.users(), keys.catchall):
            for text in rows.relocated.get(key, ()):
                new = transports.printable(text)
                known = new and new.lower() != "unknown"
                self._note(2, "relocated", node, f"{key} -> {new or 'unknown'}")
                raise Refused(
                    Reply(550, "5.1.6", f"User has moved to {new}" if known else "User has moved"),
                    f"relocated row {key}",
                )
        self._note(2, "relocated", node, "no row")

    def _route(self, node: _Node, keys: Keys, rows: Rows, site: Site) -> Route:
        if site.is_own:
            self._note(3, "transport", node, "this host's own name: local")
            return site.route
        route = transports.find(keys.addresses(), rows.transport, site.route)
        if "\ufffd" in f"{route.transport}{route.nexthop}":
            raise BrokenRow("transport", route.row, "is not in the character set that it claims")
        hosted = "hosted here" if site.is_hosted else "not hosted here"
        source = f"row {route.row}" if route.row else "no row"
        self._note(3, "transport", node, f"{source}: {route.transport}:{route.nexthop} ({hosted})")
        return route

    # Steps 4 to 6

    async def _deliver(self, node: _Node, keys: Keys, rows: Rows, route: Route) -> bool:
        """Put the destination on the list; False where the tables have none for an address of this host."""
        if route.transport in TO_HOSTS:
            hop = transports.nexthop(route, keys.names[0])
            self._destinations.append(ToHost(node.address, route.transport, hop, node.owner))
        elif route.transport == "discard":
            self._destinations.append(Discard(node.address))
        elif route.transport in ("error", "retry"):
            raise transports.refusal(route)
        elif route.transport == "local":
            return await self._deliver_locally(node, keys, rows)
        elif route.transport == "virtual":
            return self._deliver_to_account(node, keys, rows)
        else:
            self._destinations.append(ToPipe(node.address, route.transport, route.nexthop, node.owner))
        return True

    def _deliver_to_account(self, node: _Node, keys: Keys, rows: Rows) -> bool:
        account = _enabled(keys, rows)
        if not account:
            present = any(key in rows.accounts for key in keys.addresses())
            self._note(4, "users", node, "the account is disabled" if present else "no row")
            return False
        if trouble := _trouble(account, self.resolver.rules.minimum_uid):
            self._note(4, "users", node, trouble)
            raise BrokenRow("users", lookup_key(account.email), trouble)
        self._note(4, "users", node, f"mailbox {account.maildir}")
        self._destinations.append(ToMailbox(node.key, account, node.owner))
        return True

    async def _deliver_locally(self, node: _Node, keys: Keys, rows: Rows) -> bool:
        names = tuple(split(key)[0] for key in keys.addresses())
        if not keys.locals:
            rows = replace(rows, alias=(await self.resolver.lookups.find((Keys(locals=local_keys(names)),))).alias)
        for name in names:
            if texts := _texts("alias", name, rows.alias):
                if await self._expand_alias(node, name, texts, rows):
                    return True
                break
        else:
            self._note(5, "alias", node, "no row")
        return self._deliver_to_account(node, keys, rows) or await self._deliver_to_unix_user(node, names)

    async def _expand_alias(self, node: _Node, name: str, texts: Sequence[str], rows: Rows) -> bool:
        """As ``_expand``, for what only local aliases may have."""
        listed = _texts("alias", f"{OWNER}{name}", rows.alias)
        owner = f"{OWNER}{name}@{self.resolver.rules.hostname}" if listed else node.owner
        addresses, before = list[str](), len(self._destinations)
        for text in texts:
            match destinations.local(text):
                case File(path):
                    self._destinations.append(ToFile(node.address, path, owner))
                    self._note(5, "alias", node, f"{name} -> file {path}")
                case Command(command):
                    self._destinations.append(ToCommand(node.address, command, owner))
                    self._note(5, "alias", node, f"{name} -> command {command}")
                case Include(path):
                    addresses += await self._included(name, path)
                case str(address):
                    addresses.append(address)
                case unknown:
                    assert_never(unknown)
        if not addresses and len(self._destinations) == before:
            raise BrokenRow("alias", name, "the list that it includes has nobody on it")
        return not addresses or self._expand(node, "alias", name, list(dict.fromkeys(addresses)), owner)

    async def _included(self, name: str, path: str) -> list[str]:
        self.asked_host = True
        try:
            text = await self.resolver.host.included(path)
        except (OSError, ValueError) as error:
            raise BrokenRow("alias", name, f":include:{path} can't be read: {error}") from None
        if "\ufffd" in text:
            raise BrokenRow("alias", name, f":include:{path} is not UTF-8")
        addresses = destinations.listed(text)
        for address in addresses:
            if not isinstance(destinations.local(address), str):
                raise BrokenRow("alias", name, f":include:{path} has {address[:80]!r}, which is not an address")
        return addresses

    async def _deliver_to_unix_user(self, node: _Node, names: Sequence[str]) -> bool:
        self.asked_host = True
        for name in names:
            user = await self.resolver.host.user(name)
            if user is None:
                continue
            if user.uid >= self.resolver.rules.minimum_uid:
                self._note(5, "", node, f"the Unix user {name}")
                found = ToUnixUser(node.address, user.name, user.uid, user.gid, user.homedir, node.owner)
                self._destinations.append(found)
                return True
            self._note(5, "", node, f"the uid {user.uid} of the Unix user {name} is below the minimum")
        return False

    def _fall_back(self, node: _Node, site: Site, *, disabled: bool) -> None:
        if split(node.key)[0] == "postmaster" and site.is_hosted and not site.is_own:
            self._expand(node, "alias", "postmaster", ["postmaster"])
            return
        self._note(6, "", node, str(UNKNOWN))
        reason = f"{node.key}: the account is disabled" if disabled else f"{node.key} is unknown"
        if split(node.key)[0] == "postmaster":
            reason += "; somebody has to read its mail: posthouse alias add postmaster ADDRESS"
        raise Refused(UNKNOWN, reason)


def _texts(table: str, key: str, rows: Mapping[str, Sequence[str]]) -> list[str]:
    """The destinations in a key's rows; none where there is no row."""
    values = rows.get(key)
    if values is None:
        return []
    if trouble := destinations.is_broken(values):
        raise BrokenRow(table, key, trouble)
    return destinations.parts(values)


def _enabled(keys: Keys, rows: Rows) -> Account | None:
    for key in keys.addresses():
        enabled = [account for account in rows.accounts.get(key, ()) if account.enabled]
        if len(enabled) > 1:
            raise BrokenRow("users", key, f"{len(enabled)} accounts have this address")
        if enabled:
            return enabled[0]
    return None


def _trouble(account: Account, minimum_uid: int) -> str:
    """Why nothing can be delivered into an account, or an empty string."""
    if min(account.uid, account.gid) < minimum_uid:
        return f"uid {account.uid} or gid {account.gid} is below the minimum of {minimum_uid}"
    maildir = account.maildir
    if not maildir or maildir.startswith("/") or ".." in maildir.split("/") or "\0" in maildir:
        return f"maildir {maildir!r} is not a path below the mail root"
    return f"maildir {maildir!r} is not in the character set that it claims" if "\ufffd" in maildir else ""


def local_keys(names: Sequence[str]) -> tuple[str, ...]:
    """The keys under which ``alias`` may have local parts, and who owns the lists that they are."""
    return (*names, *(OWNER + name for name in names))
