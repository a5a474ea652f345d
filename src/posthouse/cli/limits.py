"""``posthouse limits``, and ``limits`` of accounts and domains: how much may be sent, and how much has been."""

from dataclasses import asdict
from typing import Annotated

import typer

from posthouse.base.clock import SystemClock
from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.directory.model import SendingLimits
from posthouse.services.quotas import quota_bytes, quota_text
from posthouse.services.sending import administration
from posthouse.services.sending.administration import Counted
from posthouse.services.sending.limits import KINDS, Bound

app = terminal.noun("How much users have sent, where that is limited.")

_HELP = "A number; none: no limit; default: as it is one step further out."
Number = Annotated[str | None, typer.Option(metavar="NUMBER", help=_HELP)]
Bytes = Annotated[str | None, typer.Option(metavar="BYTES", help="As in 10485760 or 500M; none; default.")]
OverLimit = Annotated[str | None, typer.Option(metavar="ACTION", help="refuse, hold, or default.")]


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Show what has been sent in the hour and the day of now, by login and domain."""
    now = SystemClock().now().timestamp()
    found = with_directory(lambda directory, settings: administration.usage(directory, settings, now, actor=actor()))
    if as_json:
        terminal.print_json([asdict(one) for one in found])
        return
    rows: dict[tuple[str, str], dict[str, Counted]] = {}
    for one in found:
        rows.setdefault((one.name, one.kind), {})[one.span] = one
    terminal.print_table(
        ("NAME", "WHAT", "HOUR", "DAY"),
        [(name, kind, _of(spans.get("hour")), _of(spans.get("day"))) for (name, kind), spans in rows.items()],
    )


def _of(one: Counted | None) -> str:
    if one is None:
        return "-"
    return f"{one.used} of {one.most}" if one.most else str(one.used)


@app.command()
def clear(name: Annotated[str, typer.Argument(help="A login, or a domain.")]) -> None:
    """Let a login or a domain begin its hour and day anew."""
    gone = administration.clear(terminal.settings(), name, actor=actor())
    print(f"{printable(name)} begins anew" if gone else f"{printable(name)}: nothing has been counted")


def account(
    address: str,
    messages_per_hour: Number = None,
    messages_per_day: Number = None,
    recipients_per_hour: Number = None,
    recipients_per_day: Number = None,
    bytes_per_hour: Bytes = None,
    bytes_per_day: Bytes = None,
    new_recipients_per_hour: Number = None,
    new_recipients_per_day: Number = None,
    over_limit: OverLimit = None,
    as_json: Json = False,
) -> None:
    """Show, or set, how much an account may send."""
    given = {name: value for name, value in locals().items() if name.endswith(("_hour", "_day"))}
    _limits(address, given, over_limit, as_json=as_json)


def domain(
    domain: str,
    each: Annotated[bool, typer.Option("--each", help="Each of its accounts that has no limits of its own.")] = False,
    messages_per_hour: Number = None,
    messages_per_day: Number = None,
    recipients_per_hour: Number = None,
    recipients_per_day: Number = None,
    bytes_per_hour: Bytes = None,
    bytes_per_day: Bytes = None,
    new_recipients_per_hour: Number = None,
    new_recipients_per_day: Number = None,
    over_limit: OverLimit = None,
    as_json: Json = False,
) -> None:
    """Show, or set, how much all accounts of a domain may send together; or, with --each, each of them."""
    given = {name: value for name, value in locals().items() if name.endswith(("_hour", "_day"))}
    _limits(f"@{domain}" if each else domain, given, over_limit, as_json=as_json)


def _limits(name: str, given: dict[str, str | None], over_limit: str | None, *, as_json: bool) -> None:
    new = {field: _number(field, value) for field, value in given.items() if value is not None}
    action = "" if over_limit == "default" else over_limit
    if new or action is not None:
        with_directory(lambda directory, _: administration.change(directory, name, new, action, actor=actor()))
    said, bound = with_directory(
        lambda directory, settings: administration.show(directory, settings, name, actor=actor())
    )
    if as_json:
        terminal.print_json({"name": bound.name, "set": asdict(said), "effective": _effective(bound)})
        return
    effective = _effective(bound)
    terminal.print_table(
        ("LIMIT", "IS", "SET HERE"),
        [(field, value or "none", _set(said, field)) for field, value in effective.items()],
    )


def _effective(bound: Bound) -> dict[str, int | str]:
    found: dict[str, int | str] = {
        f"{kind}_per_{span}": getattr(getattr(bound, span), kind) for kind in KINDS for span in ("hour", "day")
    }
    return {**found, "over_limit": "hold" if bound.holds else "refuse"}


def _set(said: SendingLimits, field: str) -> str:
    value = getattr(said, field)
    return "-" if value is None or value == "" else "none" if value == 0 else str(value)


def _number(field: str, value: str) -> int | None:
    if value == "default":
        return None
    if value == "none":
        return 0
    if field.startswith("bytes_"):
        return quota_bytes(quota_text(value)) or 0
    if not (value.isascii() and value.isdecimal() and len(value) < 19):
        raise typer.BadParameter(f"{field}: {value!r} is no number, nor none or default")
    return int(value)
