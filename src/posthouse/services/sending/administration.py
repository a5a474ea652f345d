"""What logins and domains may send, as operators set and see it.

A login has what is set for it, else what is set for each login of its domain (``@domain``), else
``[submission.account]``; a domain what is set for it, else ``[submission.domain]``.
"""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor, SendingLimits
from posthouse.message.address import split
from posthouse.services import access
from posthouse.services.accounts import existing
from posthouse.services.changes import NotChanged, address_key, domain_key, make
from posthouse.services.domains import check_there
from posthouse.services.sending import usagefile
from posthouse.services.sending.limits import KINDS, SPANS, Amount, Bound, Usage, bounds
from posthouse.services.sending.usagefile import SENDING_FILE
from posthouse.services.sharedfile import LOCK_SECONDS, Work

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

T = TypeVar("T")
MOST = 2**60
FIELDS = tuple(field.name for field in fields(SendingLimits) if field.name != "over_limit")


@dataclass(frozen=True, slots=True)
class Counted:
    """What a name has sent in one span, and the most that it may; 0: no limit."""

    name: str
    kind: str
    span: str
    used: int
    most: int


def key_of(name: str) -> str:
    """A login, a domain, or ``@domain`` for each login there, as tables have it. Raises ``NotChanged``."""
    if name.startswith("@"):
        return f"@{domain_key(name[1:])}"
    return address_key(name) if "@" in name else domain_key(name)


async def show(directory: Directory, settings: Settings, name: str, *, actor: Actor) -> tuple[SendingLimits, Bound]:
    """What is set under a name (see ``key_of``), and what comes of it. Raises ``NotChanged``."""
    key = _checked(actor, name)

    async def work(tables: "Tables") -> SendingLimits:
        await _check_there(tables, key)
        return await tables.limits(key)

    said = await directory.read(work)
    return said, await _bound(directory, settings, key)


async def change(
    directory: Directory, name: str, new: dict[str, int | None], over_limit: str | None, *, actor: Actor
) -> SendingLimits:
    """Set some limits: None is as it is one step further out, 0 no limit. Raises ``NotChanged``.

    Only who administers the whole host may.
    """
    access.check_host(actor)
    key = key_of(name)
    if over_limit not in (None, "", "refuse", "hold"):
        raise NotChanged(f"over the limit: expected refuse, hold or default, not {over_limit!r}")
    for field, value in new.items():
        if field not in FIELDS or (value is not None and value not in range(MOST + 1)):
            raise NotChanged(f"{field}: expected a number from 0 to {MOST}")

    async def work(tables: "Tables") -> SendingLimits:
        await _check_there(tables, key)
        limits = replace(await tables.limits(key), **new)
        if over_limit is not None:
            limits = replace(limits, over_limit=over_limit)
        await tables.set_limits(key, limits)
        said = [f"{field} {'default' if value is None else value}" for field, value in new.items()]
        said += [f"over_limit {over_limit or 'default'}"] if over_limit is not None else []
        noun = "account" if "@" in key[1:] else "domain"
        await tables.audit(f"{noun} limits", key, ", ".join(said))
        return limits

    return await make(directory, actor, work)


async def usage(directory: Directory, settings: Settings, now: float, *, actor: Actor) -> list[Counted]:
    """What has been sent in the hour and the day of now, where that is limited. Raises ``TryLater``."""
    found: list[Counted] = []
    for name, used in _read(settings, now):
        if access.covers(actor, split(name)[1] if "@" in name else name):
            found += _counted(await _bound(directory, settings, name), used)
    return found


def clear(settings: Settings, name: str, *, actor: Actor) -> bool:
    """Let a login or domain begin anew; whether it had sent anything. Raises ``NotChanged``, ``TryLater``."""
    key = _checked(actor, name)
    return bool(_with_file(settings, lambda file: usagefile.forget(file, key)))


def _counted(bound: Bound, used: Usage) -> Iterator[Counted]:
    for kind in KINDS:
        for span in SPANS:
            limits: Amount = getattr(bound, span)
            count, most = getattr(getattr(used, span).used, kind), getattr(limits, kind)
            if count or most:
                yield Counted(bound.name, kind, span, count, most)


async def _bound(directory: Directory, settings: Settings, key: str) -> Bound:
    """What is so for a login; for ``@domain``, for one of whom nothing is said."""
    if "@" not in key:
        found = await directory.sending_limits(f"@{key}")
        return bounds(f"@{key}", found, settings.submission)[1]
    found = await directory.sending_limits(key)
    if key.startswith("@"):
        found = (SendingLimits(), found[1], found[2])
    return bounds(key, found, settings.submission)[0]


def _checked(actor: Actor, name: str) -> str:
    key = key_of(name)
    access.check(actor, split(key)[1] if "@" in key else key)
    return key


async def _check_there(tables: "Tables", key: str) -> None:
    if "@" in key and not key.startswith("@"):
        await existing(tables, key)
    else:
        await check_there(tables, key.removeprefix("@"))


def _read(settings: Settings, now: float) -> list[tuple[str, Usage]]:
    return _with_file(settings, lambda file: usagefile.all_usage(file, now)) or []


def _with_file(settings: Settings, work: Work[T]) -> T | None:
    """None where there is no file: nobody has sent anything that is limited."""
    path = settings.path(SENDING_FILE)
    if not os.path.exists(path):
        return None
    try:
        file = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            return work(file)
        finally:
            file.close()
    except sqlite3.Error as error:
        raise TryLater(f"{path}: {error}; where it is broken, remove it, and a new one is made") from error
