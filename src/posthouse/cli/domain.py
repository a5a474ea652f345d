"""``posthouse domain``: the domains that are hosted here."""

from dataclasses import asdict

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, with_directory
from posthouse.services import domains

app = terminal.noun("Hosted domains.")


@app.command()
def add(domain: str) -> None:
    """Host a domain: mail for its accounts and aliases is accepted from now on."""
    name = with_directory(lambda directory, _: domains.add(directory, domain, who=terminal.who()), make=True)
    print(f"{name} is hosted here")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Show the hosted domains."""
    found = with_directory(lambda directory, _: domains.listing(directory))
    if as_json:
        terminal.print_json([asdict(domain) for domain in found])
    else:
        terminal.print_table(
            ("DOMAIN", "TRANSPORT", "ACCOUNTS", "ALIASES"),
            [(domain.name, domain.transport or "-", domain.accounts, domain.aliases) for domain in found],
        )


@app.command()
def remove(domain: str) -> None:
    """Give up a domain that has no accounts and no aliases left."""
    name = with_directory(lambda directory, _: domains.remove(directory, domain, who=terminal.who()))
    print(f"{name} is no longer hosted here")
