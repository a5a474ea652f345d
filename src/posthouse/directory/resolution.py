"""What becomes of mail for an address: steps 1 to 6 over the five tables, whatever database has them.

The steps: ``virtual`` (recursively), ``relocated``, ``transport``, then the account in ``users`` or the local
``alias`` table, else no such mailbox. As in Postfix, an extension that did not help to find a row is kept on the
row's destinations, but not on a catch-all's; a transport without nexthop leads to the recipient's domain, past
``relayhost``.

Mail for ``postmaster`` of a hosted domain that leads nowhere goes to the host's own postmaster (RFC 5321
§4.5.1): the local alias ``postmaster``, for which the operator has to name somebody.

Invariants:
  1. An address is looked up once in a resolution: work and results are bounded, whatever the rows say.
  2. What is wrong with the rows is our trouble, ``TryLater``; ``Refused`` only where the tables say no.
  3. A resolution has destinations, or it is not returned.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from posthouse.base.errors import PosthouseError, Refused, Reply, TryLater
from posthouse.directory import transports
from posthouse.directory.lookups import AddressRows, Keys, Lookups
from posthouse.directory.model import (
    Account,
    Destination,
    Discard,
    Explanation,
    Failure,
    Resolution,
    Step,
    ToHost,
    ToMailbox,
)
from posthouse.directory.transports import TO_HOSTS, Route, Site
from posthouse.message.address import lookup_key, parse_path, split, split_extension

MAX_RESULTS = 1_000
MAX_DEPTH = 100
MAX_LOOKUPS = 10_000
"""Addresses that one resolution may look up; far more than lists of 1,000 need."""

BAD_ADDRESS = Reply(553, "5.1.3", "Bad recipient address")
UNKNOWN = Reply(550, "5.1.1", "No such mailbox here")


class BrokenAliases(TryLater):
    """Aliases that form a loop, or that go beyond the limits."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about resolving."""

    hostname: str
    delimiter: str = "+"
    catchall_first: bool = False
    minimum_uid: int = 100


@dataclass(frozen=True, slots=True)
class _Node:
    """An address that is met while expanding, as it was written, and through how many others."""

    address: str
    key: str
    depth: int = 0


class Resolver:
    """Resolves by the rows that ``lookups`` finds."""

    def __init__(self, lookups: Lookups, rules: Rules) -> None:
        self.lookups = lookups
        self.rules = rules
        self.own_names = frozenset({rules.hostname.lower(), "localhost"})

    async def resolve(self, address: str) -> Resolution:
        """Where mail for ``address`` goes. Raises ``Refused`` or ``TryLater``."""
        return await _Expansion(self).run(address)

    async def explain(self, address: str) -> Explanation:
        """The same, with every step; what would be raised is in it."""
        expansion = _Expansion(self)
        try:
            resolution = await expansion.run(address)
        except PosthouseError as error:
            return Explanation(tuple(expansion.steps), None, error)
        return Explanation(tuple(expansion.steps), resolution, None)

    async def site(self, domain: str) -> Site:
        """What ``domain`` is to this host."""
        return transports.site(domain, await self.lookups.domain(transports.domain_names(domain)), self.own_names)

    def qualified(self, address: str) -> str:
        """``address`` with a domain: without one it means the host's own."""
        return address if "@" in address else f"{address}@{self.rules.hostname}"

    def keys(self, key: str) -> Keys:
        """The keys under which tables may have the address whose look-up key is ``key``."""
        local, domain = split(key)
        user, extension = split_extension(local, self.rules.delimiter)
        return Keys(
            full=key,
            plain=f"{user}@{domain}" if extension is not None else "",
            user=user if domain in self.own_names else "",
            catchall=f"@{domain}",
        )


@dataclass(slots=True)
class _Expansion:
    """One resolution on its way: a depth-first walk over what addresses lead to."""

    resolver: Resolver
    steps: list[Step] = field(default_factory=list[Step])
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
        origin = await self._site(key)
        self._pending.append(_Node(address, key))
        while self._pending:
            node = self._pending.pop()
            if node.key in self._seen:
                continue
            self._seen.add(node.key)
            self._check_limits(node, key)
            try:
                await self._settle(node)
            except Refused as error:
                self._failures.append(Failure(node.address, error.reply, error.reason))
        self._check_for_loop()
        if not self._destinations:
            first = self._failures[0]
            raise Refused(first.reply, first.reason)
        relay = not origin.is_hosted and not origin.handed_on
        return Resolution(tuple(self._destinations), relay, tuple(self._failures))

    async def _site(self, key: str) -> Site:
        domain = split(key)[1]
        if domain not in self._sites:
            self._sites[domain] = await self.resolver.site(domain)
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
        rows = await self.resolver.lookups.address(keys)
        if self._expand_virtual(node, keys, rows):
            return
        self._check_relocated(node, keys, rows)
        site = await self._site(node.key)
        route = self._route(node, keys, rows, site)
        if not await self._deliver(node, keys, rows, route):
            self._fall_back(node, site, disabled=any(key in rows.accounts for key in keys.addresses()))

    # Step 1

    def _expand_virtual(self, node: _Node, keys: Keys, rows: AddressRows) -> bool:
        """Put what ``virtual`` has for the address on the list; whether that is all there is to do."""
        for key in keys.names():
            if texts := _parts(rows.virtual.get(key)):
                return self._expand(node, "virtual", key, self._targets(node, key, texts))
        texts = _parts(rows.virtual.get(keys.catchall))
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

    def _expand(self, node: _Node, table: str, key: str, targets: list[str]) -> bool:
        """Put ``targets`` on the list. False where the address itself is among them: it has arrived."""
        children = [self._child(node, table, key, target) for target in targets]
        leads_to_itself = any(child.key == node.key for child in children)
        if not leads_to_itself:
            self._leads_to[node.key] = [child.key for child in children]
        self._pending.extend(child for child in reversed(children) if child.key != node.key)
        shown = ", ".join(child.address for child in children)
        self._note(5 if table == "alias" else 1, table, node, f"{key} -> {shown}" + " (itself)" * leads_to_itself)
        return not leads_to_itself

    def _child(self, node: _Node, table: str, key: str, target: str) -> _Node:
        try:
            # Lists' and forwarders' rewritten addresses are longer than a mailbox's name may be.
            address = parse_path(self.resolver.qualified(target), utf8=True, allow_empty=True)
        except ValueError as error:
            raise TryLater(f"{table} row {key} has no usable destination {target[:80]!r}: {error}") from None
        return _Node(address, lookup_key(address), node.depth + 1)

    # Steps 2 and 3

    def _check_relocated(self, node: _Node, keys: Keys, rows: AddressRows) -> None:
        for key in (*keys.names(), keys.catchall):
            for text in rows.relocated.get(key, ()):
                new = transports.printable(text)
                known = new and new.lower() != "unknown"
                self._note(2, "relocated", node, f"{key} -> {new or 'unknown'}")
                raise Refused(
                    Reply(550, "5.1.6", f"User has moved to {new}" if known else "User has moved"),
                    f"relocated row {key}",
                )
        self._note(2, "relocated", node, "no row")

    def _route(self, node: _Node, keys: Keys, rows: AddressRows, site: Site) -> Route:
        if site.is_own:
            self._note(3, "transport", node, "this host's own name: local")
            return site.route
        route = transports.find(keys.addresses(), rows.transport, site.route)
        hosted = "hosted here" if site.is_hosted else "not hosted here"
        source = f"row {route.row}" if route.row else "no row"
        self._note(3, "transport", node, f"{source}: {route.transport}:{route.nexthop} ({hosted})")
        return route

    # Steps 4 to 6

    async def _deliver(self, node: _Node, keys: Keys, rows: AddressRows, route: Route) -> bool:
        """Put the destination on the list; False where the tables have none for an address of this host."""
        if route.transport in TO_HOSTS:
            hop = transports.nexthop(route, split(node.key)[1])
            self._destinations.append(ToHost(node.address, route.transport, hop))
        elif route.transport == "discard":
            self._destinations.append(Discard(node.address))
        elif route.transport in ("error", "retry"):
            raise transports.refusal(route)
        elif route.transport == "local":
            return await self._deliver_locally(node, keys, rows)
        elif route.transport == "virtual":
            return self._deliver_to_account(node, keys, rows)
        else:
            raise TryLater(f"transport row {route.row}: {route.transport}: is not supported yet")
        return True

    def _deliver_to_account(self, node: _Node, keys: Keys, rows: AddressRows) -> bool:
        account = _enabled(keys, rows)
        if not account:
            present = any(key in rows.accounts for key in keys.addresses())
            self._note(4, "users", node, "the account is disabled" if present else "no row")
            return False
        if trouble := _trouble(account, self.resolver.rules.minimum_uid):
            self._note(4, "users", node, trouble)
            raise TryLater(f"users row {account.email}: {trouble}")
        self._note(4, "users", node, f"mailbox {account.maildir}")
        self._destinations.append(ToMailbox(node.key, account))
        return True

    async def _deliver_locally(self, node: _Node, keys: Keys, rows: AddressRows) -> bool:
        names = tuple(split(key)[0] for key in keys.addresses())
        aliases = await self.resolver.lookups.local_alias(names)
        for name in names:
            texts = _parts(aliases.get(name))
            if not texts:
                continue
            for text in texts:
                if text.startswith(("/", "|", ":", '"', "\\")):
                    raise TryLater(f"alias row {name}: {text[:80]!r} is not supported yet, only addresses are")
            if self._expand(node, "alias", name, texts):
                return True
            break
        else:
            self._note(5, "alias", node, "no row")
        return self._deliver_to_account(node, keys, rows)

    def _fall_back(self, node: _Node, site: Site, *, disabled: bool) -> None:
        if split(node.key)[0] == "postmaster" and site.is_hosted and not site.is_own:
            self._expand(node, "alias", "postmaster", ["postmaster"])
            return
        self._note(6, "", node, str(UNKNOWN))
        reason = f"{node.key}: the account is disabled" if disabled else f"{node.key} is unknown"
        if split(node.key)[0] == "postmaster":
            reason += "; somebody has to read its mail: posthouse alias add postmaster ADDRESS"
        raise Refused(UNKNOWN, reason)


def _parts(values: Sequence[str] | None) -> list[str]:
    """The destinations in a key's rows, each once; rows that have none count for nothing."""
    if not values:
        return []
    return list(dict.fromkeys(part for value in values for text in value.split(",") if (part := text.strip())))


def _enabled(keys: Keys, rows: AddressRows) -> Account | None:
    return next(
        (rows.accounts[key] for key in keys.addresses() if key in rows.accounts and rows.accounts[key].enabled),
        None,
    )


def _trouble(account: Account, minimum_uid: int) -> str:
    """Why nothing can be delivered into an account, or an empty string."""
    if min(account.uid, account.gid) < minimum_uid:
        return f"uid {account.uid} or gid {account.gid} is below the minimum of {minimum_uid}"
    maildir = account.maildir
    if not maildir or maildir.startswith("/") or ".." in maildir.split("/") or "\0" in maildir:
        return f"maildir {maildir!r} is not a path below the mail root"
    return "" if maildir.endswith("/") else f"maildir {maildir!r} is an mbox file, which is not supported yet"
