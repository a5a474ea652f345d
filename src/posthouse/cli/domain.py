"""``posthouse domain``: the domains that are hosted here."""

from typing import Annotated

import typer

from posthouse.cli import limits, terminal
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.services import domain_routes, domains, quotas

app = terminal.noun("Hosted domains.")
catchall = terminal.noun("Where mail goes that is for no account and no alias of a domain.")
alias = terminal.noun("Domains whose users are those of another domain.")
admin = terminal.noun("Accounts that may administer a domain.")
app.add_typer(catchall, name="catchall")
app.add_typer(alias, name="alias")
app.add_typer(admin, name="admin")
app.command("limits")(limits.domain)

MaxAccounts = Annotated[str | None, typer.Option(help="How many accounts it may have; none: any number.")]
DefaultQuota = Annotated[str | None, typer.Option(help="Of new accounts that are given none: 500M; none: no limit.")]
TotalQuota = Annotated[str | None, typer.Option(help="Of all its accounts together: 20G; none: no limit.")]
Note = Annotated[str | None, typer.Option(help="A line for you.")]


@app.command()
def add(
    domain: str,
    max_accounts: MaxAccounts = None,
    default_quota: DefaultQuota = None,
    total_quota: TotalQuota = None,
    note: Note = None,
) -> None:
    """Host a domain: mail for its accounts and aliases is accepted from now on."""
    fields = _fields(max_accounts, default_quota, total_quota, note)
    name = with_directory(lambda directory, _: domains.add(directory, domain, actor=actor(), **fields), make=True)
    print(f"{name} is hosted here")


@app.command("set")
def set_fields(
    domain: str,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Disabled: neither delivery nor login.")
    ] = None,
    max_accounts: MaxAccounts = None,
    default_quota: DefaultQuota = None,
    total_quota: TotalQuota = None,
    note: Note = None,
) -> None:
    """Change what a domain may have."""
    fields = _fields(max_accounts, default_quota, total_quota, note)
    if enabled is not None:
        fields["enabled"] = enabled
    with_directory(lambda directory, _: domains.set_fields(directory, domain, actor=actor(), **fields))
    print(f"{printable(domain)}: {printable(domains.described(fields))}")


def _fields(
    max_accounts: str | None, default_quota: str | None, total_quota: str | None, note: str | None
) -> domains.Fields:
    fields = domains.Fields()
    if max_accounts is not None:
        if max_accounts != "none" and not (max_accounts.isascii() and max_accounts.isdecimal()):
            raise typer.BadParameter(f"{max_accounts!r} is not a number of accounts, nor none")
        fields["max_accounts"] = None if max_accounts == "none" else int(max_accounts.lstrip("0")[:12] or 0)
    if default_quota is not None:
        fields["default_quota"] = quotas.quota_text(default_quota)
    if total_quota is not None:
        fields["total_quota_bytes"] = quotas.quota_bytes(quotas.quota_text(total_quota))
    if note is not None:
        fields["note"] = note
    return fields


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Show the hosted domains."""
    found = with_directory(lambda directory, settings: domains.listing(directory, settings, actor=actor()))
    if as_json:
        terminal.print_json([domains.as_dict(domain) for domain in found])
    else:
        terminal.print_table(
            ("DOMAIN", "TRANSPORT", "ACCOUNTS", "ALIASES", "STATE", "NOTE"),
            [
                (
                    domain.name,
                    domain.transport or "-",
                    _of(domain.accounts, domain.settings.max_accounts),
                    domain.aliases,
                    "enabled" if domain.settings.enabled else "disabled",
                    domain.settings.note,
                )
                for domain in found
            ],
        )


def _of(number: int | None, limit: int | None) -> str:
    if number is None:
        return "kept elsewhere"
    return str(number) if limit is None else f"{number} of {limit}"


@app.command()
def show(domain: str, as_json: Json = False) -> None:
    """Show everything about a domain."""
    found = with_directory(lambda directory, _: domains.show(directory, domain, actor=actor()))
    if as_json:
        terminal.print_json(domains.as_dict(found))
        return
    settings = found.settings
    terminal.print_pairs(
        ("domain", found.name),
        ("state", "enabled" if settings.enabled else "disabled: neither delivery nor login"),
        ("transport", ", ".join(found.transport) or "-"),
        ("accounts", _of(found.accounts, settings.max_accounts)),
        ("quotas together", _of(found.quota_bytes, settings.total_quota_bytes)),
        ("default quota", settings.default_quota or "none"),
        ("catch-all", ", ".join(found.catchall) or "-"),
        ("alias domains", ", ".join(found.alias_domains) or "-"),
        ("administered by", ", ".join(found.admins) or "-"),
        ("note", settings.note or "-"),
    )


@app.command()
def remove(domain: str) -> None:
    """Give up a domain that has no accounts and no aliases left."""
    name = with_directory(lambda directory, _: domains.remove(directory, domain, actor=actor()))
    print(f"{name} is no longer hosted here")


@catchall.command("set")
def set_catchall(
    domain: str, dest: Annotated[list[str], typer.Argument(help="Where it goes; @domain: same user there.")]
) -> None:
    """Set where such mail goes, and nowhere else."""
    made = with_directory(lambda directory, _: domain_routes.set_catchall(directory, domain, dest, actor=actor()))
    print(f"{made.key} -> {', '.join(made.destinations)}")


@catchall.command("unset")
def remove_catchall(domain: str) -> None:
    """Refuse such mail again."""
    left = with_directory(lambda directory, _: domain_routes.remove_catchall(directory, domain, actor=actor()))
    print(f"{left.key} leads nowhere any more")


@alias.command("add")
def add_alias(domain: str, target: Annotated[str, typer.Argument(help="The domain whose users it gets.")]) -> None:
    """Host a domain whose every user is the one of that name at another."""
    name = with_directory(
        lambda directory, _: domain_routes.add_alias_domain(directory, domain, target, actor=actor())
    )
    print(f"@{name} -> @{printable(target)}")


@alias.command("remove")
def remove_alias(domain: str) -> None:
    """Undo that; a domain that has nothing of its own is given up."""
    name, is_given_up = with_directory(
        lambda directory, _: domain_routes.remove_alias_domain(directory, domain, actor=actor())
    )
    print(f"{name} leads to no other domain any more" + (" and is no longer hosted here" if is_given_up else ""))


@admin.command("add")
def add_admin(domain: Annotated[str, typer.Argument(help="A domain, or * for everything.")], address: str) -> None:
    """Let an account administer a domain."""
    email, of = with_directory(
        lambda directory, _: domain_routes.add_admin(directory, domain, address, actor=actor())
    )
    print(f"{email} administers {of}")


@admin.command("remove")
def remove_admin(domain: Annotated[str, typer.Argument(help="A domain, or * for everything.")], address: str) -> None:
    """No longer let an account administer a domain."""
    email, of = with_directory(
        lambda directory, _: domain_routes.remove_admin(directory, domain, address, actor=actor())
    )
    print(f"{email} no longer administers {of}")


@admin.command("list")
def list_admins(
    domain: Annotated[str, typer.Argument(help="Only those of this domain.")] = "", as_json: Json = False
) -> None:
    """Show who administers what."""
    found = with_directory(lambda directory, _: domain_routes.admins(directory, domain, actor=actor()))
    if as_json:
        terminal.print_json([{"account": email, "domain": of} for email, of in found])
    else:
        terminal.print_table(("ACCOUNT", "DOMAIN"), found)
