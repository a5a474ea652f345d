"""``posthouse account``: users with a mailbox."""

from dataclasses import asdict
from typing import Annotated

import typer

from posthouse.cli import terminal
from posthouse.cli.terminal import Json, with_directory
from posthouse.services import accounts

app = terminal.noun("Accounts: users with a mailbox.")

PasswordStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input; otherwise a random one is made."),
]


@app.command()
def add(
    address: str,
    password_stdin: PasswordStdin = False,
    name: Annotated[str, typer.Option(help="The user's name.")] = "",
    quota: Annotated[str, typer.Option(help="Bytes, or as in 10485760S,1000C; empty: no limit.")] = "",
) -> None:
    """Add an account in a hosted domain."""
    given = terminal.password(password_stdin)
    password = accounts.random_password() if given is None else given
    account = with_directory(
        lambda directory, settings: accounts.add(
            directory, settings, address, password, name=name, quota=quota, who=terminal.who()
        )
    )
    print(f"{account.email} added" + (f", password {password}" if given is None else ""))


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Show the accounts."""
    found = with_directory(lambda directory, _: accounts.listing(directory))
    if as_json:
        terminal.print_json([asdict(account) for account in found])
    else:
        terminal.print_table(
            ("ADDRESS", "NAME", "MAILDIR", "QUOTA", "STATE"),
            [
                (one.email, one.name, one.maildir, one.quota or "-", "enabled" if one.enabled else "disabled")
                for one in found
            ],
        )


@app.command()
def passwd(address: str, password_stdin: PasswordStdin = False) -> None:
    """Set a new password."""
    given = terminal.password(password_stdin)
    password = accounts.random_password() if given is None else given
    account = with_directory(
        lambda directory, _: accounts.set_password(directory, address, password, who=terminal.who())
    )
    print(f"{account.email} has a new password" + (f": {password}" if given is None else ""))


@app.command()
def disable(address: str) -> None:
    """Allow neither delivery nor login until the account is enabled again."""
    _enable(address, enabled=False)


@app.command()
def enable(address: str) -> None:
    """Allow delivery and login again."""
    _enable(address, enabled=True)


def _enable(address: str, *, enabled: bool) -> None:
    account = with_directory(
        lambda directory, _: accounts.enable(directory, address, enabled=enabled, who=terminal.who())
    )
    print(f"{account.email} is {'enabled' if enabled else 'disabled'}")


@app.command()
def remove(
    address: str,
    delete_mail: Annotated[bool, typer.Option("--delete-mail", help="Delete the stored mail, too.")] = False,
) -> None:
    """Remove an account; its mail stays on disk unless told otherwise."""
    path = with_directory(
        lambda directory, settings: accounts.remove(
            directory, settings, address, delete_mail=delete_mail, who=terminal.who()
        )
    )
    print(f"{address} removed; its mail {'was deleted from' if delete_mail else 'stays in'} {path}")
