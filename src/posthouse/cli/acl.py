"""``posthouse mailbox acl``: who may use an account's mailboxes besides its owner.

What IMAP clients set with SETACL, and what counts at once: sessions look at every step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from posthouse.cli import mailbox, terminal
from posthouse.cli.terminal import Json, with_directory
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.message.address import lookup_key
from posthouse.protocols.imap import rights
from posthouse.store import acl, folders, shares
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.layout import INBOX
from posthouse.store.shares import Shares

app = terminal.noun("Who may use an account's mailboxes besides its owner.")
Only = Annotated[str, typer.Option("--mailbox", help="Only this one.")]
Who = Annotated[str, typer.Argument(help="An account's address, or anyone: everybody in the owner's domain.")]


@app.command("list")
def listing(address: str, only: Only = "", as_json: Json = False) -> None:
    """Who may do what in the account's mailboxes."""
    with _owned(address) as (files, _):
        found = [
            {"mailbox": name, "who": acl.shown(entry), "rights": rights.spelled(letters)}
            for name in _names(files, only)
            for entry, letters in acl.read(files.existing(name)).items()
        ]
    _print(found, as_json=as_json)


@app.command()
def grant(
    address: str,
    who: Who,
    letters: Annotated[str, typer.Argument(metavar="RIGHTS", help="lrs; +t adds to what is given, -t takes away.")],
    name: mailbox.Folder = INBOX,
) -> None:
    """Give rights in one mailbox. l look up, r read, s seen, w flags, i insert, t delete, e expunge, k make, x remove
    mailboxes, a administer, p post."""
    mode = {"+": "add", "-": "remove"}.get(letters[:1], "replace")
    try:
        changed = rights.parse(letters.removeprefix("+").removeprefix("-"))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if who.split() != [who]:
        raise typer.BadParameter(f"{who!r} is no address")
    with _owned(address) as (files, shared):
        acl.change(files.existing(name), who, mode, changed)
        shared.note(files, lookup_key(address), {acl.written(who)})


@app.command()
def revoke(address: str, who: Who, only: Only = "") -> None:
    """Take all rights away, in all mailboxes if none is named."""
    with _owned(address) as (files, shared):
        for name in _names(files, only):
            folder = files.existing(name)
            if acl.written(who) in acl.read(folder):
                acl.change(folder, who, "replace", rights.NONE)
        shared.note(files, lookup_key(address), {acl.written(who)})


@app.command()
def shared(address: str, as_json: Json = False) -> None:
    """What others share with the account."""
    login = lookup_key(address)

    async def owners(directory: Directory, settings: Settings) -> list[str]:
        found = Shares(settings.path(settings.mail.root)).owners(login)
        accounts = [(owner, await directory.account(owner)) for owner in found]
        return [owner for owner, account in accounts if account and account.enabled]

    found: list[dict[str, str]] = []
    for owner, files in mailbox.opened(with_directory(owners), every=False):
        for name in shares.visible(files, login, owner.email):
            granted = acl.rights_of(acl.read(files.folder(name)), login, owner.email)
            found.append({"mailbox": name, "who": owner.email, "rights": rights.spelled(granted)})
    _print(found, as_json=as_json, whose="OWNER")


@contextmanager
def _owned(address: str) -> Iterator[tuple[AccountFiles, Shares]]:
    settings = terminal.settings()
    with mailbox.one(address) as files:
        yield files, Shares(settings.path(settings.mail.root))


def _names(files: AccountFiles, only: str) -> list[str]:
    return [only] if only else [INBOX, *sorted(folders.existing_names(files))]


def _print(found: list[dict[str, str]], *, as_json: bool, whose: str = "WHO") -> None:
    if as_json:
        terminal.print_json(found)
        return
    terminal.print_table(("MAILBOX", whose, "RIGHTS"), [tuple(row.values()) for row in found])
