"""Where look-ups read: the preset for a schema, changed by what the configuration says about single look-ups.

A text that is a plain name, or several with dots between them, is a table or column; anything else is an SQL
expression, taken as the operator wrote it.
"""

from dataclasses import dataclass, replace
from typing import Any

from posthouse.config.settings import Database, Lookup, UsersLookup

KEYED = ("virtual", "relocated", "transport", "alias")
USER_COLUMNS = ("name", "uid", "gid", "homedir", "maildir", "quota", "enabled")


@dataclass(frozen=True, slots=True)
class Source:
    """One table that a look-up reads.

    ``prefix``: the table has keys and values without it (``@`` where it has bare domains). ``id``: its primary key,
    for messages. ``is_exact``: all keys are in lower case.
    """

    table: str
    key: str
    values: tuple[str, ...]
    where: str = ""
    prefix: str = ""
    id: str = ""
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class Tables:
    """What each look-up reads; several sources are read together. No source: that look-up finds nothing."""

    virtual: tuple[Source, ...]
    relocated: tuple[Source, ...]
    transport: tuple[Source, ...]
    alias: tuple[Source, ...]
    users: Source
    password: str


POSTHOUSE = Tables(
    virtual=(Source("virtual", "email", ("destination",), id="id"),),
    relocated=(Source("relocated", "email", ("destination",), id="id"),),
    transport=(Source("transport", "domain", ("destination",), id="id"),),
    alias=(Source("alias", "alias", ("destination",), id="id"),),
    users=Source("users", "email", ("name", "uid", "gid", "homedir", "maildir", "quota", "postfix"), id="id"),
    password="clear",  # noqa: S106 - a column
)
_TRANSPORT = (
    "CASE WHEN COALESCE(transport, '') NOT IN ('', 'virtual', 'virtual:') THEN transport"
    " WHEN backupmx THEN 'relay:' ELSE 'virtual:' END"
)
POSTFIXADMIN = Tables(
    virtual=(
        Source("alias", "address", ("goto",), "active"),
        Source("alias_domain", "alias_domain", ("target_domain",), "active", prefix="@"),
    ),
    relocated=(),
    transport=(
        # It keeps a domain called ALL for administrators of everything.
        Source("domain", "domain", (_TRANSPORT,), "active AND domain <> 'ALL'"),
        Source("alias_domain", "alias_domain", ("'virtual:'",), "active"),
    ),
    alias=(),
    users=Source(
        "mailbox",
        "username",
        ("name", "1001", "1001", "''", "maildir", "CASE WHEN quota > 0 THEN quota END", "active"),
    ),
    password="password",  # noqa: S106 - a column
)
PRESETS = {"posthouse": POSTHOUSE, "postfixadmin": POSTFIXADMIN}


def tables(settings: Database) -> Tables:
    """What is read by these settings."""
    preset = PRESETS[settings.schema]
    changed: dict[str, Any] = {name: _keyed(getattr(preset, name), getattr(settings, name)) for name in KEYED}
    return replace(
        preset,
        **changed,
        users=_users(preset.users, settings.users),
        password=settings.users.password or preset.password,
    )


def _keyed(sources: tuple[Source, ...], given: Lookup) -> tuple[Source, ...]:
    """A look-up as it is configured. Another table takes the place of everything that the preset reads."""
    if given == Lookup():
        return sources
    first = sources[0] if sources else Source("", "", ("",))
    made = Source(
        given.table or first.table,
        given.key or first.key,
        (given.value,) if given.value else first.values,
        given.where or first.where,
        first.prefix,
        "" if given.table else first.id,
    )
    return (made,) if given.table else (made, *sources[1:])


def _users(source: Source, given: UsersLookup) -> Source:
    values = tuple(getattr(given, name) or value for name, value in zip(USER_COLUMNS, source.values, strict=True))
    return Source(
        given.table or source.table,
        given.key or source.key,
        values,
        given.where or source.where,
        id="" if given.table else source.id,
    )
