"""The resolver against a slow and obvious one: recursion over dictionaries, as the rules are written down."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.base.errors import Refused, TryLater
from posthouse.directory.lookups import Rows
from posthouse.directory.model import Account, ToHost, ToMailbox, ToPipe
from posthouse.directory.resolution import Resolver, Rules

OWN = "own.test"
DOMAINS = ("a.test", "b.test", "far.test", "pipe.test", OWN)
USERS = ("u", "v", "u+x")
ADDRESSES = [f"{user}@{domain}" for user in USERS for domain in DOMAINS]
BARE = ("u", "v")
KEYS = [*ADDRESSES, *BARE, *(f"@{domain}" for domain in DOMAINS)]


@dataclass
class Tables:
    """Rows in dictionaries: the reference reads them as they are, the resolver through its own questions."""

    virtual: dict[str, list[str]]
    relocated: set[str]
    accounts: dict[str, bool]
    alias: dict[str, list[str]]
    disabled: set[str]
    at_once: int = 1
    hosted: set[str] = field(default_factory=lambda: {"a.test", "b.test"})

    async def find(self, wanted):
        keyed = {key for keys in wanted for key in (*keys.users(), keys.catchall)}
        return Rows(
            {key: rows for key, rows in self.virtual.items() if key in keyed},
            {key: ["unknown"] for key in self.relocated & keyed},
            {
                domain: ["pipe:"] if domain == "pipe.test" else ["virtual:"]
                for domain in {keys.names[0] for keys in wanted} & {*self.hosted, "pipe.test"}
            },
            {key: rows for key, rows in self.alias.items() if any(key in keys.locals for keys in wanted)},
            {
                email: [Account(email, "", 1001, 1001, "", "m/", "", enabled)]
                for email, enabled in self.accounts.items()
                if any(email in (keys.full, keys.plain) for keys in wanted)
            },
            self.disabled & {keys.names[0] for keys in wanted},
        )

    async def ids(self, table, key):
        return ""


class Nobody:
    """A host without Unix users."""

    async def user(self, name):
        return None


class Trouble(Exception):
    pass


def plain(address):
    local, domain = address.split("@")
    return f"{local.split('+')[0]}@{domain}"


def rows_for(tables, address, catchall_first):
    """The addresses that virtual has for this one, or None."""
    local, domain = address.split("@")
    extension = local.partition("+")[2]
    if rows := tables.virtual.get(address):
        return [local + row if row.startswith("@") else row for row in rows]
    names = [plain(address)] if extension else []
    if domain == OWN:
        names.append(local.split("+")[0])
    for name in names:
        if rows := tables.virtual.get(name):
            kept = f"+{extension}@" if extension else "@"
            return [local + row if row.startswith("@") else row.replace("@", kept) for row in rows]
    rows = tables.virtual.get("@" + domain)
    has_account = tables.accounts.get(address) or tables.accounts.get(plain(address))
    if not rows or (has_account and not catchall_first):
        return None
    return [local + row if row.startswith("@") else row for row in rows]


def has_moved(tables, address):
    local, domain = address.split("@")
    keys = {address, plain(address), "@" + domain}
    return bool(tables.relocated & (keys | {local.split("+")[0]} if domain == OWN else keys))


def alias_for(tables, address):
    """The local alias that an address has, and its owner, or None."""
    local, domain = address.split("@")
    for name in (local, local.split("+")[0]):
        if domain == OWN and name in tables.alias and not has_moved(tables, address):
            return tables.alias[name], f"owner-{name}@{OWN}" if f"owner-{name}" in tables.alias else ""
    return None


def leaves(tables, address, catchall_first, owner="", path=(), settled=frozenset()):
    """Every address that this one ends in, with its owner. Those that lead to themselves end a circle, others make
    it a loop."""
    if address in settled:
        return set()
    if address.split("@")[1] in tables.disabled:
        return {(address, owner)}
    if address in path:
        raise Trouble
    rows = rows_for(tables, address, catchall_first)
    steps = [(rows, owner)] if rows is not None else []
    if rows is None or address in rows:
        steps += [(alias[0], alias[1] or owner)] if (alias := alias_for(tables, address)) else []
    arrives = not steps or address in steps[-1][0]
    ends = {(address, owner)} if arrives else set()
    for targets, its_owner in steps:
        more = ((), settled | {address}) if address in targets else ((*path, address), settled)
        for target in targets:
            if target != address:
                ends |= leaves(tables, target, catchall_first, its_owner, *more)
    return ends


def outcome(tables, address):
    domain = address.split("@")[1]
    if domain in tables.disabled or has_moved(tables, address):
        return None
    if domain == "pipe.test":
        return f"pipe {address}"
    if domain not in {*tables.hosted, OWN}:
        return f"host {address}"
    if tables.accounts.get(address) or tables.accounts.get(plain(address)):
        return f"mailbox {address}"
    return None


ENDS = st.lists(st.sampled_from([key for key in KEYS if "+" not in key and key not in BARE]), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(
    # Without "+" in destinations what a loop can grow is bounded, and the reference ends.
    virtual=st.dictionaries(st.sampled_from(KEYS), ENDS, max_size=8),
    relocated=st.sets(st.sampled_from(KEYS), max_size=2),
    accounts=st.dictionaries(st.sampled_from(ADDRESSES), st.booleans(), max_size=6),
    alias=st.dictionaries(
        st.sampled_from(["u", "v", "u+x", "owner-u"]),
        st.lists(st.sampled_from([address for address in ADDRESSES if "+" not in address]), min_size=1, max_size=2),
        max_size=3,
    ),
    disabled=st.sets(st.sampled_from(DOMAINS), max_size=1),
    catchall_first=st.booleans(),
    at_once=st.sampled_from([1, 3]),
)
def test_the_resolver_agrees_with_the_rules_as_they_are_written(
    virtual, relocated, accounts, alias, disabled, catchall_first, at_once
):
    tables = Tables(virtual, relocated, accounts, alias, disabled, at_once)
    resolver = Resolver(tables, Rules(OWN, catchall_first=catchall_first), Nobody())
    for address in ADDRESSES:
        try:
            ends = leaves(tables, address, catchall_first)
            expected = {(name, owner) for leaf, owner in ends if (name := outcome(tables, leaf))}
        except Trouble:
            expected = "try later"
        try:
            got = {(_named(one), one.owner) for one in asyncio.run(resolver.resolve(address)).destinations}
        except Refused:
            got = set()
        except TryLater:
            got = "try later"
        if expected == "try later" or got == "try later":
            assert got == expected, address
            continue
        # Where several lists lead to one address, it is the first one's.
        assert {name for name, _ in got} == {name for name, _ in expected}, address
        assert got <= expected, address


def _named(destination):
    if isinstance(destination, ToMailbox):
        return f"mailbox {destination.address}"
    if isinstance(destination, ToPipe):
        return f"pipe {destination.address}"
    assert isinstance(destination, ToHost)
    return f"host {destination.address}"
