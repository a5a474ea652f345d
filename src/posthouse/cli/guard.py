"""``posthouse guard``: who is shut out after too many failed logins."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from posthouse.base.clock import SystemClock
from posthouse.base.errors import TryLater
from posthouse.cli import terminal
from posthouse.cli.terminal import Json
from posthouse.services import shutout
from posthouse.services.guard import GUARD_FILE, KINDS
from posthouse.services.guardfile import Counter

app = terminal.noun("Failed logins, and who is shut out after too many.")

Result = TypeVar("Result")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Show addresses, networks and accounts with failed logins in the last minutes; those shut out first."""
    now = SystemClock().now().timestamp()
    found = _with_file(lambda path: shutout.listing(path, now))
    if as_json:
        terminal.print_json([_as_json(one, now) for one in found])
        return
    terminal.print_table(
        ("WHAT", "NAME", "FAILURES", "SINCE", "SHUT OUT UNTIL", "LAST LOGIN TRIED"),
        [
            (
                KINDS[one.kind],
                one.name or "-",
                one.failures,
                _time(one.since),
                _time(one.blocked_until) if one.is_blocked(now) else "-",
                one.login or "-",
            )
            for one in found
        ],
    )


@app.command()
def clear(
    target: Annotated[
        str | None, typer.Argument(metavar="ADDRESS|NETWORK|ACCOUNT", help="Whose failures to forget.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Everybody's.")] = False,
) -> None:
    """Forget failed logins, and let in again who was shut out."""
    if every == (target is not None):
        raise typer.BadParameter("name an address, a network or an account, or say --all")
    gone = _with_file(lambda path: shutout.clear(path, target))
    if target is not None and not gone and not shutout.is_name(target):
        raise typer.BadParameter(f"{target!r} is neither an address, nor a network, nor an account")
    for one in gone if target is not None else ():
        print(f"{KINDS[one.kind]} {terminal.printable(one.name)}: {one.failures} failures forgotten")
    if target is None:
        print(f"everything forgotten: {len(gone)} addresses, networks and accounts")
        return
    now = SystemClock().now().timestamp()
    for network in _with_file(lambda path: shutout.containing(path, target, now)):
        if network not in gone:
            print(f"network {network.name} is shut out, too: posthouse guard clear {network.name}")
    if not gone:
        print(f"{terminal.printable(target)}: no failed logins are known")


def _with_file(work: Callable[[str], Result]) -> Result:
    path = terminal.settings().path(GUARD_FILE)
    try:
        return work(path)
    except sqlite3.Error as error:
        raise TryLater(f"{path}: {error}; where it is broken, remove it, and a new one is made") from error


def _as_json(one: Counter, now: float) -> dict[str, object]:
    return {
        "what": KINDS[one.kind],
        "name": one.name,
        "failures": one.failures,
        "since": _time(one.since),
        "blocked_until": _time(one.blocked_until) if one.is_blocked(now) else None,
        "login": one.login,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
