"""``posthouse db``: the whole database: make it, look it over, take one over as it is, move its schema.

What it needs, alembic above all, takes a third of a second to import: only these commands do it, when they run.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, printable
from posthouse.directory.version import NEEDED
from posthouse.services.findings import Finding

if TYPE_CHECKING:
    from posthouse.services.adoption import Adoption

app = terminal.noun("The database of domains, accounts and addresses as a whole.")

PROBLEMS = 1
_SECONDS_BETWEEN = 0.2
Yes = Annotated[bool, typer.Option("--yes", help="Do it, whatever is lost.")]


@app.command()
def init() -> None:
    """Make all tables in an empty database."""
    from posthouse.services import adoption

    name, made = asyncio.run(adoption.init(terminal.settings()))
    if not made:
        print(f"{name} has everything already")
    else:
        print(f"{name}: made {', '.join(made)}")


@app.command()
def check(as_json: Json = False) -> None:
    """Look at the servers, the schema and every row. Exit code 0: fine; 1: there are problems. Nothing is changed."""
    from posthouse.services import adoption

    with contextlib.closing(_Progress()) as progress:
        report = asyncio.run(adoption.check(terminal.settings(), progress))
    if as_json:
        terminal.print_json({**asdict(report), "is_fine": report.is_fine})
    else:
        print(f"database  {printable(report.database.removeprefix('database '))}")
        for server in report.servers:
            print(f"server    {printable(' '.join(filter(None, (server.address, server.state, server.reason))))}")
        print(f"schema    {report.schema or 'none of ours'}")
        if report.advice:
            print(f"          {printable(report.advice)}")
        _print_findings(report.findings)
    raise typer.Exit(0 if report.is_fine else PROBLEMS)


@app.command()
def adopt(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at everything, change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Take over a database that has the five tables: only tables of our own are added."""
    from posthouse.services import adoption

    with contextlib.closing(_Progress()) as progress:
        done = asyncio.run(
            adoption.adopt(terminal.settings(), actor=terminal.actor(), dry_run=dry_run, progress=progress)
        )
    if as_json:
        terminal.print_json(asdict(done))
    else:
        _print_findings(done.findings)
        print()
        print(_outcome(done, dry_run=dry_run))
    raise typer.Exit(PROBLEMS if done.is_refused else 0)


def _outcome(done: "Adoption", *, dry_run: bool) -> str:
    if done.is_refused:
        return f"{done.database} is not adopted and nothing was changed: mend the errors first"
    if dry_run:
        return f"{done.database} can be adopted; nothing was changed"
    if not done.made:
        return f"{done.database} is Posthouse's already; nothing was changed"
    return f"{done.database} is adopted: made {', '.join(done.made)}; nothing else was changed"


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="Where to; the newest.")] = NEEDED) -> None:
    """Bring the schema to what this version needs."""
    _move(revision, forward=True, yes=True)


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Where to, as in 0001; base: no table of ours is left.")],
    yes: Yes = False,
) -> None:
    """Bring the schema back to an older one. Says what is lost; the five tables never are."""
    _move(revision, forward=False, yes=yes)


def _move(revision: str, *, forward: bool, yes: bool) -> None:
    from posthouse.services import adoption

    settings = terminal.settings()
    move = asyncio.run(adoption.plan_move(settings, revision))
    if not move.steps:
        print(f"{move.database} has schema {move.current} already")
        return
    is_back = move.target == "base" or move.target < move.current
    if is_back == forward and move.current != "base":
        other = "downgrade" if forward else "upgrade"
        raise typer.BadParameter(
            f"from {move.current} to {revision} is the other way: posthouse db {other} {revision}"
        )
    for table, count in move.losses:
        rows = "1 row" if count == 1 else f"{count} rows"
        what = _passwords(move.passwords) if table == "posthouse_credentials" else ""
        print(f"{table} is dropped with its {rows}{what}" if count else f"{table} is dropped; it is empty")
    if is_back and not yes:
        print("nothing was changed: add --yes to do it")
        raise typer.Exit(PROBLEMS)
    asyncio.run(adoption.move(settings, revision))
    for step, text in move.steps:
        print(f"now at {step}" + (f": {text}" if text else ""))


def _passwords(accounts: int | None) -> str:
    if accounts is None:
        return ": people's passwords"
    if not accounts:
        return ", people's passwords; no account has its only one there"
    if accounts == 1:
        return ", people's passwords: 1 account has its only one there, and can't log in afterwards"
    return f", people's passwords: {accounts} accounts have their only one there, and can't log in afterwards"


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings:
        rows = f" ({finding.count} {'row' if finding.count == 1 else 'rows'})" if finding.count else ""
        print()
        print(printable(f"{finding.severity.upper()} {finding.table}: {finding.text}{rows}"))
        for example in finding.examples:
            print(printable(f"    {f'id {example.id}: ' if example.id else ''}{example.text}"))
        if len(finding.examples) < finding.count and len(finding.examples) > 1:
            print("    …")
        print(printable(f"    -> {finding.advice}"))
    counts = {word: sum(finding.severity == word for finding in findings) for word in ("error", "warning", "note")}
    print()
    print(", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items()))


class _Progress:
    """A line on a terminal that says how far it is, and is gone afterwards."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._last = 0.0

    def __call__(self, what: str, done: int) -> None:
        now = time.monotonic()
        if self._is_shown and now - self._last > _SECONDS_BETWEEN:
            self._last = now
            print(f"\r\033[K{printable(what)} {done or ''}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._is_shown and self._last:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
