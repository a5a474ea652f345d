"""``posthouse account``: users with a mailbox."""

import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import typer

from posthouse.cli import limits, sender, terminal
from posthouse.cli.resolve import outcome
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account
from posthouse.services import accounts, app_passwords, overview, passwords, totp
from posthouse.services.changes import address_key
from posthouse.store.quota import parse

app = terminal.noun("Accounts: users with a mailbox.")
app_password = terminal.noun("Further passwords of an account, each for one program.")
one_time = terminal.noun("A second factor for the web: codes that an authenticator app shows (TOTP).")
app.add_typer(app_password, name="app-password")
app.add_typer(one_time, name="totp")
app.add_typer(sender.app, name="sender")
app.command("limits")(limits.account)

PasswordStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input; otherwise a random one is made."),
]
_QUOTA = "Bytes, as in 10485760, 500M or 10485760S,1000C (octets and messages); none: no limit."


@app.command()
def add(
    address: str,
    password_stdin: PasswordStdin = False,
    name: Annotated[str, typer.Option(help="The user's name.")] = "",
    quota: Annotated[str | None, typer.Option(help=f"{_QUOTA} Not given: the domain's default.")] = None,
    as_json: Json = False,
) -> None:
    """Add an account in a hosted domain."""
    given = terminal.password(password_stdin)
    password = passwords.random_password() if given is None else given
    account = with_directory(
        lambda directory, settings: accounts.add(
            directory, settings, address, password, name=name, quota=quota, actor=actor()
        )
    )
    if as_json:
        terminal.print_json({**asdict(account), **({"password": password} if given is None else {})})
    else:
        print(f"{account.email} added" + (f", password {password}" if given is None else ""))


@app.command("list")
def listing(
    domain: Annotated[str, typer.Option(help="Only those of this domain.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 0,
    as_json: Json = False,
) -> None:
    """Show the accounts, by address."""

    async def use(directory: Directory, _: object) -> None:
        found = _at_most(limit, accounts.listing(directory, domain=domain, actor=actor()))
        if as_json:
            await terminal.print_json_list(asdict(account) async for account in found)
        else:
            headings = ("ADDRESS", "NAME", "MAILDIR", "QUOTA", "STATE")
            await terminal.print_rows(headings, (_row(account) async for account in found))

    with_directory(use)


async def _at_most(limit: int, pages: AsyncIterator[list[Any]]) -> AsyncIterator[Account]:
    left = limit or None
    async for page in pages:
        for row in islice(page, left):
            yield row.account
        if left is not None:
            left -= min(left, len(page))
            if not left:
                return


def _row(account: Account) -> tuple[str, ...]:
    state = "enabled" if account.enabled else "disabled"
    return (account.email, account.name, account.maildir, account.quota or "-", state)


@app.command()
def show(address: str, as_json: Json = False) -> None:
    """Show everything about an account: where its mail goes, and what it can log in with."""
    found = with_directory(lambda directory, settings: overview.show(directory, settings, address, actor=actor()))
    if as_json:
        fields = {**asdict(found.account), **asdict(found)}
        del fields["account"], fields["mail"]
        terminal.print_json({**fields, "mail": outcome(found.mail)})
        return
    account = found.account
    state = "enabled" if account.enabled else "disabled"
    terminal.print_pairs(
        ("address", account.email),
        ("name", account.name or "-"),
        ("state", state if found.domain_enabled else f"{state}, but its domain is disabled"),
        ("quota", account.quota or "none"),
        *([("used", _usage(found))] if account.quota else []),
        ("password", found.password),
        ("second factor", "TOTP" if found.has_totp else "none"),
        *(("app password", _described(one)) for one in found.app_passwords),
        ("maildir", f"{found.path} (uid {account.uid}, gid {account.gid})"),
        ("forwarded to", ", ".join(found.forward) or "-"),
        ("aliases", ", ".join(found.aliases) or "-"),
        ("administers", ", ".join(found.administers) or "-"),
        *(("mail", line) for line in outcome(found.mail)),
    )


def _usage(found: overview.Overview) -> str:
    limit = parse(found.account.quota)
    if found.used is None or limit is None:
        return "not counted yet"
    of = [f" of {most}" if most else "" for most in (limit.size_bytes, limit.messages)]
    return f"{found.used.size_bytes}{of[0]} bytes, {found.used.messages}{of[1]} messages"


def _described(one: Any) -> str:
    used = f"last used {one.last_used} from {one.last_peer}" if one.last_used else "never used"
    return f"{one.name} ({', '.join(one.scopes)}), made {one.created}, {used}"


@app.command()
def passwd(address: str, password_stdin: PasswordStdin = False) -> None:
    """Set a new password."""
    given = terminal.password(password_stdin)
    password = passwords.random_password() if given is None else given
    account = with_directory(lambda directory, _: accounts.set_password(directory, address, password, actor=actor()))
    print(f"{printable(account.email)} has a new password" + (f": {password}" if given is None else ""))


@app.command()
def quota(address: str, quota: Annotated[str, typer.Argument(help=_QUOTA)]) -> None:
    """Set how much an account may keep."""
    account = with_directory(lambda directory, _: accounts.set_quota(directory, address, quota, actor=actor()))
    print(f"{printable(account.email)} has the quota {account.quota}" if account.quota else f"{address} has no quota")


@app.command()
def name(address: str, name: Annotated[str, typer.Argument(help="The user's name.")]) -> None:
    """Set the user's name."""
    account = with_directory(lambda directory, _: accounts.set_name(directory, address, name, actor=actor()))
    print(f"{printable(account.email)} is {account.name}")


@app.command()
def forward(
    address: str,
    dest: Annotated[list[str] | None, typer.Argument(help="Where to.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep a copy in the account.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Keep the mail here again.")] = False,
) -> None:
    """Send an account's mail on to other addresses."""
    if off == bool(dest):
        raise typer.BadParameter("expected addresses to forward to, or --off")
    if off:
        with_directory(lambda directory, _: accounts.stop_forwarding(directory, address, actor=actor()))
        print(f"{address} is no longer forwarded")
        return
    now = with_directory(
        lambda directory, _: accounts.forward(directory, address, dest or [], keep_copy=keep, actor=actor())
    )
    print(f"{address} -> {', '.join(now)}")


@app.command()
def disable(address: str) -> None:
    """Allow neither delivery nor login until the account is enabled again."""
    _enable(address, enabled=False)


@app.command()
def enable(address: str) -> None:
    """Allow delivery and login again."""
    _enable(address, enabled=True)


def _enable(address: str, *, enabled: bool) -> None:
    account = with_directory(lambda directory, _: accounts.enable(directory, address, enabled=enabled, actor=actor()))
    print(f"{printable(account.email)} is {'enabled' if enabled else 'disabled'}")


@app.command()
def remove(
    address: str,
    delete_mail: Annotated[bool, typer.Option("--delete-mail", help="Delete the stored mail, too.")] = False,
    with_aliases: Annotated[bool, typer.Option("--aliases", help="Remove the aliases that lead to it, too.")] = False,
) -> None:
    """Remove an account with its passwords; its mail stays on disk unless told otherwise."""
    removed = with_directory(
        lambda directory, settings: accounts.remove(
            directory, settings, address, delete_mail=delete_mail, remove_aliases=with_aliases, actor=actor()
        )
    )
    where = f"{'was deleted from' if delete_mail else 'stays in'} {removed.path}"
    print(printable(f"{removed.email} removed; its mail {where}"))
    if removed.aliases:
        what = "aliases removed" if with_aliases else "aliases still lead to it (--aliases would have removed them)"
        print(printable(f"{what}: {', '.join(removed.aliases)}"))


@app_password.command("add")
def add_app_password(
    address: str,
    name: Annotated[str, typer.Argument(help="What it is for, such as a program or device.")],
    scope: Annotated[str, typer.Option(help="What it may be used for: of imap, pop3, smtp, web.")] = "imap,pop3,smtp",
    as_json: Json = False,
) -> None:
    """Make a further password; it is shown this once."""
    made = with_directory(
        lambda directory, _: app_passwords.add(directory, address, name, scope.split(","), actor=actor())
    )
    if as_json:
        scopes = sorted({one.strip().lower() for one in scope.split(",")})
        terminal.print_json({"email": address_key(address), "name": name.strip(), "scopes": scopes, "password": made})
        return
    print(f"{address} has the app password {made} for {printable(name)} ({scope})")


@app_password.command("list")
def list_app_passwords(address: str, as_json: Json = False) -> None:
    """Show what there is, and when it was last used."""
    found = with_directory(lambda directory, _: app_passwords.listing(directory, address, actor=actor()))
    if as_json:
        terminal.print_json([asdict(one) for one in found])
    else:
        terminal.print_table(
            ("NAME", "SCOPE", "MADE", "LAST USED", "FROM"),
            [
                (one.name, ",".join(one.scopes), one.created, one.last_used or "never", one.last_peer or "-")
                for one in found
            ],
        )


@app_password.command("remove")
def remove_app_password(address: str, name: str) -> None:
    """Make an app password worthless."""
    with_directory(lambda directory, _: app_passwords.remove(directory, address, name, actor=actor()))
    print(f"{address} has no app password {printable(name)} any more")


@one_time.command("set")
def set_totp(address: str) -> None:
    """Make a secret for an authenticator app; it is shown this once."""
    secret = with_directory(lambda directory, _: totp.begin(directory, address, actor=actor()))
    print(f"{address} has the TOTP secret {secret}\n{totp.uri(address, secret)}")


@one_time.command("verify")
def verify_totp(address: str, code: str) -> None:
    """Say whether a code is right at this moment. Exit code 0: it is; 1: it isn't."""
    right = with_directory(lambda directory, _: totp.check(directory, address, code, time.time(), actor=actor()))
    print(f"the code is {'right' if right else 'wrong'}")
    raise typer.Exit(0 if right else 1)


@one_time.command("remove")
def remove_totp(address: str) -> None:
    """Ask for no code any more."""
    with_directory(lambda directory, _: totp.remove(directory, address, actor=actor()))
    print(f"{address} needs no code any more")
