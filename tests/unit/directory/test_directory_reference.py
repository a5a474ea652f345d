"""The resolver against a slow and obvious one: recursion over dictionaries, as the rules are written down."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.base.errors import Refused, TryLater
from posthouse.directory.lookups import AddressRows, DomainRows
from posthouse.directory.model import Account, ToHost, ToMailbox
from posthouse.directory.resolution import Resolver, Rules

DOMAINS = ("a.test", "b.test", "far.test")
USERS = ("u", "v", "u+x")
ADDRESSES = [f"{user}@{domain}" for user in USERS for domain in DOMAINS]
KEYS = [*ADDRESSES, *(f"@{domain}" for domain in DOMAINS)]


@dataclass
class Tables:
    """Rows in dictionaries: the reference reads them as they are, the resolver through its own questions."""

    virtual: dict[str, list[str]]
    relocated: set[str]
    accounts: dict[str, bool]
    hosted: set[str] = field(default_factory=lambda: {"a.test", "b.test"})

    async def address(self, keys):
        wanted = {keys.full, keys.plain, keys.user, keys.catchall}
        return AddressRows(
            {key: rows for key, rows in self.virtual.items() if key in wanted},
            {key: ["unknown"] for key in self.relocated & wanted},
            {},
            {
                email: Account(email, "", 1001, 1001, "", "m/", "", enabled)
                for email, enabled in self.accounts.items()
                if email in (keys.full, keys.plain)
            },
        )

    async def domain(self, names):
        return DomainRows(False, {names[0]: ["virtual:"]} if names[0] in self.hosted else {})

    async def local_alias(self, names):
        return {}


class Trouble(Exception):
    pass


def plain(address):
    local, domain = address.split("@")
    return f"{local.split('+')[0]}@{domain}"


def targets(tables, address, catchall_first):
    """The addresses that virtual has for this one, or None."""
    local, domain = address.split("@")
    extension = local.partition("+")[2]
    if rows := tables.virtual.get(address):
        return [local + row if row.startswith("@") else row for row in rows]
    if extension and (rows := tables.virtual.get(plain(address))):
        return [local + row if row.startswith("@") else row.replace("@", f"+{extension}@") for row in rows]
    rows = tables.virtual.get("@" + domain)
    has_account = tables.accounts.get(address) or tables.accounts.get(plain(address))
    if not rows or (has_account and not catchall_first):
        return None
    return [local + row if row.startswith("@") else row for row in rows]


def leaves(tables, address, catchall_first, path=(), settled=frozenset()):
    """Every address that this one ends in. Those that lead to themselves end a circle, others make it a loop."""
    found = targets(tables, address, catchall_first)
    if found is None:
        return {address}
    if address in settled:
        return set()
    if address in path:
        raise Trouble
    ends = set()
    if address in found:
        ends, path, settled = {address}, (), settled | {address}
    else:
        path = (*path, address)
    for target in found:
        if target != address:
            ends |= leaves(tables, target, catchall_first, path, settled)
    return ends


def outcome(tables, address):
    if (
        address in tables.relocated
        or plain(address) in tables.relocated
        or "@" + address.split("@")[1] in tables.relocated
    ):
        return None
    if address.split("@")[1] not in tables.hosted:
        return f"host {address}"
    if tables.accounts.get(address) or tables.accounts.get(plain(address)):
        return f"mailbox {address}"
    return None


@settings(max_examples=100, deadline=None)
@given(
    # Without "+" in destinations what a loop can grow is bounded, and the reference ends.
    virtual=st.dictionaries(
        st.sampled_from(KEYS),
        st.lists(st.sampled_from([key for key in KEYS if "+" not in key]), min_size=1, max_size=3),
        max_size=8,
    ),
    relocated=st.sets(st.sampled_from(KEYS), max_size=2),
    accounts=st.dictionaries(st.sampled_from(ADDRESSES), st.booleans(), max_size=6),
    catchall_first=st.booleans(),
)
def test_the_resolver_agrees_with_the_rules_as_they_are_written(virtual, relocated, accounts, catchall_first):
    tables = Tables(virtual, relocated, accounts)
    resolver = Resolver(tables, Rules("mx.host.test", catchall_first=catchall_first))
    for address in ADDRESSES:
        try:
            expected = {
                result for leaf in leaves(tables, address, catchall_first) if (result := outcome(tables, leaf))
            }
        except Trouble:
            expected = "try later"
        try:
            got = {_named(one) for one in asyncio.run(resolver.resolve(address)).destinations}
        except Refused:
            got = set()
        except TryLater:
            got = "try later"
        assert got == expected, address


def _named(destination):
    if isinstance(destination, ToMailbox):
        return f"mailbox {destination.address}"
    assert isinstance(destination, ToHost)
    return f"host {destination.address}"
