"""What only all rows together show: duplicates, maildirs in one another, loops, domains that nobody hosts."""

import asyncio
from collections.abc import Callable, Mapping

from posthouse.base.errors import PosthouseError, Refused
from posthouse.config.settings import Settings
from posthouse.directory.resolution import BrokenAliases, Resolver
from posthouse.services.findings import Tally
from posthouse.services.tablecopy import TableCopy

_PROBE = "nobody-has-this-name"
_LOOP = "aliases form a loop: "
# What leads to one address that no other row has anything to say about can be in no loop.
_MAY_LOOP = """
SELECT email, min(id) FROM virtual WHERE email LIKE '%@%' AND (target IS NULL OR (target <> email AND (
    EXISTS (SELECT 1 FROM virtual AS next WHERE next.email COLLATE NOCASE = virtual.target)
    OR EXISTS (SELECT 1 FROM virtual AS next
        WHERE next.email COLLATE NOCASE = substr(virtual.target, instr(virtual.target, '@')))
    OR instr(virtual.target, ?1) > 0
    OR virtual.target LIKE ?2)))
GROUP BY email
"""
_ACCOUNTS_BY_DOMAIN = "SELECT domain, count(*), min(id), min(email) FROM users WHERE domain <> '' GROUP BY domain"
_HIDDEN = """
SELECT domain, count(*), min(id), min(email) FROM users
WHERE domain IN (SELECT substr(email, 2) FROM virtual WHERE email LIKE '@%')
AND NOT EXISTS (SELECT 1 FROM virtual WHERE virtual.email COLLATE NOCASE = users.email) GROUP BY domain
"""
_UNSECURED = """
SELECT id, email FROM users WHERE has_password = 0 AND email NOT IN (SELECT email FROM posthouse_credentials)
"""
_MOVED = """
SELECT id, email FROM users
WHERE EXISTS (SELECT 1 FROM relocated WHERE relocated.email COLLATE NOCASE = users.email)
"""
_DUPLICATES = """
SELECT {0}, count(*), group_concat(id, ', ') FROM (SELECT {0}, id FROM {1} ORDER BY rowid)
WHERE {0} <> '' GROUP BY {0} HAVING count(*) > 1
"""


async def check_together(
    copy: TableCopy,
    resolver: Resolver,
    settings: Settings,
    names: Mapping[str, str],
    tally: Tally,
    progress: Callable[[str, int], None],
) -> None:
    """All of it. ``names``: what the table of each role is called."""
    progress("duplicates", 0)
    users = names["users"]
    for kind, role, column in (("duplicate-account", "users", "email"), ("duplicate-route", "transport", "domain")):
        for key, number, one in copy.each(_DUPLICATES.format(column, role)):
            tally.rows(names[role], kind, number, one, key)
    for id_, key in copy.each(
        "SELECT id, email FROM users WHERE folded IN (SELECT folded FROM users WHERE folded <> '' "
        "GROUP BY folded HAVING count(DISTINCT email) > 1)"
    ):
        tally.row(users, "alike", id_, key)
    for id_, key in copy.each(_MOVED):
        tally.row(users, "moved-but-here", id_, key)
    kind = "no-password" if set(settings.auth.chain) <= {"sql"} else "no-password-here"
    for id_, key in copy.each(_UNSECURED):
        tally.row(users, kind, id_, key)
    kind = "catchall-and-accounts" if settings.smtp.catchall == "after-accounts" else "hidden-by-catchall"
    for domain, number, id_, key in copy.each(_HIDDEN):
        tally.rows(users, kind, number, id_, f"{key} (@{domain})")
    progress("maildirs", 0)
    _check_maildirs(copy, users, tally)
    await _check_domains(copy, resolver, users, tally, progress)
    await _check_loops(copy, resolver, names, tally, progress)


def _check_maildirs(copy: TableCopy, users: str, tally: Tally) -> None:
    """In order, whatever lies in a directory comes right after it."""
    above, owner = "", ""
    for path, id_, key in copy.each("SELECT path, id, email FROM users WHERE path <> '' ORDER BY path, rowid"):
        if above and path == above:
            tally.row(users, "maildir-shared", id_, f"{key} and {owner} ({path})")
        elif above and path.startswith(above):
            tally.row(users, "maildir-nested", id_, f"{key} ({path}) in that of {owner} ({above})")
        else:
            above, owner = path, key


async def _check_domains(
    copy: TableCopy, resolver: Resolver, users: str, tally: Tally, progress: Callable[[str, int], None]
) -> None:
    for done, (domain, number, id_, key) in enumerate(list(copy.each(_ACCOUNTS_BY_DOMAIN)), 1):
        site = await resolver.site(domain)
        if not site.is_hosted:
            tally.rows(users, "unhosted", number, id_, key, domain)
        if done % 1000 == 0:
            await _breathe(progress, "domains", done)


async def _breathe(progress: Callable[[str, int], None], what: str, done: int) -> None:
    """Say how far it is; somebody may have pressed Ctrl-C meanwhile."""
    progress(what, done)
    await asyncio.sleep(0)


async def _check_loops(
    copy: TableCopy, resolver: Resolver, names: Mapping[str, str], tally: Tally, progress: Callable[[str, int], None]
) -> None:
    known: set[frozenset[str]] = set()
    delimiter = resolver.rules.delimiter or "@@"
    done = 0
    own = f"%@{resolver.rules.hostname}"
    for role, sql, marks in (
        ("virtual", _MAY_LOOP, (delimiter, own)),
        ("alias", "SELECT alias, min(id) FROM alias WHERE alias <> '' GROUP BY alias", ()),
    ):
        for key, id_ in copy.each(sql, marks):
            done += 1
            if done % 500 == 0:
                await _breathe(progress, "aliases", done)
            address = f"{_PROBE}{key}" if key.startswith("@") else resolver.qualified(key)
            try:
                await resolver.resolve(address)
            except BrokenAliases as error:
                _report(error.reason, role, names, id_, address.removeprefix(_PROBE), known, tally)
            except Refused:
                pass  # that it leads nowhere is an answer
            except PosthouseError:
                pass  # the rows that it leads to have been looked at by themselves


def _report(
    reason: str, role: str, names: Mapping[str, str], id_: str, key: str, known: set[frozenset[str]], tally: Tally
) -> None:
    if not reason.startswith(_LOOP):
        tally.row(names[role], "too-many", id_, reason)
        return
    chain = [step.removeprefix(_PROBE) for step in reason.removeprefix(_LOOP).split(" -> ")]
    members = frozenset(chain)
    if members in known:
        return
    known.add(members)
    is_open = any(step.startswith("@") for step in chain)
    tally.row(
        names[role], "catchall-loop" if is_open else "alias-loop", id_ if key in members else "", " -> ".join(chain)
    )
