"""Postfix, as its maps lead it, against the resolver: both take the same mail, to the same mailboxes."""

import asyncio
from dataclasses import replace

from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from tests.unit.directory.test_directory_reference import OWN, Nobody, Tables

from posthouse.base.errors import Refused, TryLater
from posthouse.config.settings import Settings, Smtp
from posthouse.directory.model import Account
from posthouse.directory.resolution import Resolver, Rules
from posthouse.services.postfixmaps import PostfixMaps

HOSTED = ("a.test", "b.test")
DOMAINS = (*HOSTED, "far.test")
ADDRESSES = [f"{user}@{domain}" for user in ("u", "v", "u+x") for domain in DOMAINS]
KEYS = [*ADDRESSES, *(f"@{domain}" for domain in DOMAINS)]
ENDS = st.lists(st.sampled_from([key for key in KEYS if "+" not in key]), min_size=1, max_size=3)


class Directory:
    """Dictionaries and the real resolver."""

    def __init__(self, tables: Tables, rules: Rules) -> None:
        self._tables = tables
        self.resolver = Resolver(tables, rules, Nobody())
        self.resolve = self.resolver.resolve

    async def lookup(self, table: str, key: str) -> tuple[str, ...] | None:
        if table == "virtual":
            return tuple(self._tables.virtual.get(key, ())) or None
        if table == "relocated":
            return ("unknown",) if key in self._tables.relocated else None
        assert table in ("domains", "transport")
        return ("virtual:",) if key in HOSTED else None

    async def account(self, email: str) -> Account | None:
        enabled = self._tables.accounts.get(email)
        return None if enabled is None else Account(email, "", 1001, 1001, "", "m/", "", enabled)


async def at_the_door(maps: PostfixMaps, address: str) -> bool:
    """Whether smtpd(8) takes a recipient."""
    if await maps.look_up("virtual", address) is not None:
        return True
    if await maps.look_up("relocated", address) is not None:
        return False
    domain = address.partition("@")[2]
    is_known = await maps.look_up("mailbox", address) is not None
    return is_known or await maps.look_up("domains", domain) is None


async def delivered(maps: PostfixMaps, address: str) -> set[str]:
    """Where cleanup(8) and the delivery agents take it; what they would return is left out."""
    pending, seen, leaves = [address], {address}, set()
    while pending:
        one = pending.pop()
        found = await maps.look_up("virtual", one)
        targets = [one] if found is None else found.split(", ")
        if one in targets and await at_the_door(maps, one) and await maps.look_up("relocated", one) is None:
            is_here = await maps.look_up("domains", one.partition("@")[2]) is not None
            if not is_here or await maps.look_up("mailbox", one) is not None:
                leaves.add(one)
        pending += [target for target in targets if target not in seen]
        seen.update(targets)
    return leaves


async def compare(maps: PostfixMaps, directory: Directory, address: str) -> None:
    try:
        resolution = await directory.resolve(address)
    except Refused:
        # An alias at a domain that isn't here is Postfix's to return, if it leads nowhere.
        is_here = await maps.look_up("domains", address.partition("@")[2]) is not None
        assert not is_here or not await at_the_door(maps, address)
        assert await delivered(maps, address) == set()
    except TryLater:
        try:
            await at_the_door(maps, address)
        except TryLater:
            return
        raise AssertionError(f"{address}: the resolver can't say, Postfix can") from None
    else:
        assert await at_the_door(maps, address)
        assert await delivered(maps, address) == {one.address for one in resolution.destinations}, address


@hypothesis(max_examples=100, deadline=None)
@given(
    virtual=st.dictionaries(st.sampled_from(KEYS), ENDS, max_size=6),
    relocated=st.sets(st.sampled_from(KEYS), max_size=2),
    accounts=st.dictionaries(st.sampled_from(ADDRESSES), st.booleans(), max_size=6),
    disabled=st.sets(st.sampled_from(HOSTED), max_size=1),
    catchall_first=st.booleans(),
)
def test_postfix_takes_and_delivers_what_the_resolver_does(virtual, relocated, accounts, disabled, catchall_first):
    tables = Tables(virtual, relocated, accounts, {}, disabled)
    directory = Directory(tables, Rules(OWN, catchall_first=catchall_first))
    order = "before-accounts" if catchall_first else "after-accounts"
    maps = PostfixMaps(directory, replace(Settings(hostname=OWN), smtp=Smtp(catchall=order)))
    for address in ADDRESSES:
        asyncio.run(compare(maps, directory, address))
