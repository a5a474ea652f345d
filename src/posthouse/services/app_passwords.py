"""App passwords: further passwords of an account, each for one program and good for some protocols only.

What they are is told once, when they are made, and kept only as a hash.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor, AppPassword
from posthouse.directory.records import KeptAppPassword
from posthouse.message.address import split
from posthouse.services import access
from posthouse.services.accounts import existing
from posthouse.services.changes import NotChanged, address_key, make, plain_text

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

SCOPES = ("imap", "pop3", "smtp", "web")
MAX_APP_PASSWORDS = 50
"""Of one account: each is a hash to try at a login."""


async def add(directory: Directory, address: str, name: str, scopes: Iterable[str], *, actor: Actor) -> str:
    """A new app password, in clear. Raises ``NotChanged``."""
    from posthouse.services.passwords import new_app_password

    key = _key(actor, address)
    label = _label(name)
    wanted = frozenset(scope.strip().lower() for scope in scopes)
    if not wanted or wanted - set(SCOPES):
        raise NotChanged(f"{', '.join(sorted(wanted - set(SCOPES))) or 'no scope'}: scopes are {', '.join(SCOPES)}")
    password, hashed = new_app_password()

    async def work(tables: "Tables") -> None:
        await existing(tables, key)
        present = await tables.app_passwords(key)
        if any(one.name.lower() == label.lower() for one in present):
            raise NotChanged(f"{key} has an app password {label!r} already")
        if len(present) >= MAX_APP_PASSWORDS:
            raise NotChanged(f"{key} has {len(present)} app passwords: remove those that nobody uses")
        await tables.add_app_password(key, AppPassword(0, label, wanted, hashed))
        await tables.audit("account app-password add", key, f"{label} for {', '.join(sorted(wanted))}")

    await make(directory, actor, work)
    return password


async def listing(directory: Directory, address: str, *, actor: Actor) -> list[KeptAppPassword]:
    """An account's app passwords, oldest first. Raises ``NotChanged``."""
    key = _key(actor, address)

    async def work(tables: "Tables") -> list[KeptAppPassword]:
        await existing(tables, key)
        return await tables.app_passwords(key)

    return await directory.read(work)


async def remove(directory: Directory, address: str, name: str, *, actor: Actor) -> None:
    """Whoever uses it can't log in any more. Raises ``NotChanged``."""
    key = _key(actor, address)

    async def work(tables: "Tables") -> None:
        found = [one for one in await tables.app_passwords(key) if one.name.lower() == name.lower()]
        if not found:
            raise NotChanged(f"{key} has no app password {name!r}; 'posthouse account app-password list {key}'")
        await tables.remove_app_password(found[0].id)
        await tables.audit("account app-password remove", key, found[0].name)

    await make(directory, actor, work)


def _label(name: str) -> str:
    if not name.strip():
        raise NotChanged("an app password needs a name, such as that of the program or device")
    return plain_text(name.strip(), "name", 100)


def _key(actor: Actor, address: str) -> str:
    key = address_key(address)
    access.check(actor, split(key)[1])
    return key
