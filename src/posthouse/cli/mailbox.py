"""``posthouse mailbox``: what lies in accounts' mailboxes.

Works on the Maildirs, with the server running or not, as the user whose they are: as root it becomes the configured
``user`` for good, once it has opened what the caller named.
"""

import os
import pwd
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import typer

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.cli import terminal
from posthouse.cli.terminal import Json, actor, printable, with_directory
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account
from posthouse.runtime import privileges
from posthouse.services import accounts, mailsources
from posthouse.store import expunged, filename, folders, mboxformat, quota, upkeep
from posthouse.store.accountfiles import AccountFiles, is_mailbox, open_account
from posthouse.store.layout import INBOX, SEPARATOR, canonical_name
from posthouse.store.shares import Shares

T = TypeVar("T")

app = terminal.noun("What lies in accounts' mailboxes.")
ZIP_SECONDS = (315_532_800.0, 4_354_819_198.0)  # of 1980 to 2107 is the time in a ZIP archive
NO_MAILBOX = Reply(550, "5.1.1", "No such mailbox")
Every = Annotated[bool, typer.Option("--all", help="Every account that has a Maildir.")]
Folder = Annotated[str, typer.Option("--mailbox", help="INBOX, Work, Work.2026 …")]
Addresses = Annotated[list[str] | None, typer.Argument(help="Accounts.")]


@app.command("list")
def listing(address: str, as_json: Json = False) -> None:
    """The mailboxes of an account, with their numbers."""
    with one(address) as files:
        found = upkeep.mailboxes(files)
    if as_json:
        terminal.print_json([{**asdict(box), **asdict(numbers)} for box, numbers in found])
        return
    headings = ("MAILBOX", "MESSAGES", "UNSEEN", "BYTES", "UIDNEXT", "UIDVALIDITY", "USE", "SUBSCRIBED")
    rows = [
        (box.name, n.messages, n.unseen, n.size_bytes, n.uidnext, n.uidvalidity, box.special_use.lstrip("\\") or "-",
         "yes" if box.subscribed else "no")
        for box, n in found
    ]  # fmt: skip
    terminal.print_table(headings, rows)


@app.command()
def check(addresses: Addresses = None, every: Every = False, as_json: Json = False) -> None:
    """Look for damage in Maildirs, indexes and UID lists, and change nothing. Exit code 1: there is some."""
    found: list[dict[str, object]] = []
    count = 0
    for account, files in several(addresses, every):
        count += 1
        for finding in upkeep.check(files):
            found.append({"account": account.email, **asdict(finding)})
            if not as_json:
                _print_finding(account, finding)
    if as_json:
        terminal.print_json(found)
    else:
        print(f"{count} accounts, {len(found)} problems")
    if found:
        raise typer.Exit(1)


@app.command()
def repair(addresses: Addresses = None, every: Every = False) -> None:
    """Mend what `check` finds: no UID changes, and no message is touched. Exit code 1: not all could be mended."""
    is_all = True
    settings = terminal.settings()
    shares = Shares(settings.path(settings.mail.root))
    for account, files in several(addresses, every):
        upkeep.repair(files, quota.parse(account.quota))
        shares.note(files, account.email)
        left = upkeep.check(files)
        for finding in left:
            _print_finding(account, finding)
        print(f"{account.email}: " + (f"{len(left)} problems are left" if left else "in order"))
        is_all = is_all and not left
    if not is_all:
        raise typer.Exit(1)


def _print_finding(account: Account, finding: upkeep.Finding) -> None:
    print(printable(f"{account.email}: {finding.path} {finding.problem}"))
    print(printable(f"    -> {finding.advice or f'posthouse mailbox repair {account.email}'}"))


@app.command()
def export(
    address: str,
    target: Annotated[Path, typer.Argument(help="FILE.mbox (one mailbox), FILE.zip or a directory: a Maildir.")],
    mailbox: Annotated[str, typer.Option("--mailbox", help="Only this one; FILE.mbox: INBOX if not given.")] = "",
) -> None:
    """Write messages with their flags to a file or directory that isn't there yet."""
    kind = target.suffix.lower()
    with ExitStack() as stack:
        file = stack.enter_context(target.open("xb")) if kind in (".mbox", ".zip") else None
        if file is None:
            _make_directory(target, terminal.settings())
        try:
            files = stack.enter_context(one(address))
            chosen = [canonical_name(mailbox)] if mailbox else [INBOX, *sorted(folders.existing_names(files))]
            letters = _told(_letters(files, chosen[:1] if kind == ".mbox" else chosen), "exported")
            if file is None:
                count = _export_maildir(files, letters, target)
            else:
                count = (_export_mbox if kind == ".mbox" else _export_zip)(letters, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            _remove(target)
            raise
    print(f"{count} messages exported to {target}")


@app.command("import")
def import_messages(
    address: str,
    source: Annotated[
        Path, typer.Argument(help="A Maildir, a directory of .eml files, or a .zip, .eml or mbox file.")
    ],
    mailbox: Folder = INBOX,
) -> None:
    """Add messages with their flags and folders. What an import has added before is not added again."""
    into = canonical_name(mailbox)
    with ExitStack() as stack:
        file = None if source.is_dir() else stack.enter_context(source.open("rb"))
        files = stack.enter_context(one(address, make=True))
        putting = upkeep.Putting(files)
        added = known = failed = 0
        for arrival in _told(mailsources.arrivals(str(source), file, into), "read"):
            try:
                problem = arrival.problem
                if not problem:
                    is_added = putting.put(arrival.mailbox, arrival.data, arrival.flags, arrival.date)
                    added, known = added + is_added, known + (not is_added)
            except Refused as error:
                problem = error.reason
            if problem:
                failed += 1
                print(printable(f"{arrival.origin}: {problem}"), file=sys.stderr)
    print(f"{added} messages added, {known} were there, {failed} could not be taken")
    if failed:
        raise typer.Exit(1)


@app.command()
def restore(
    address: str,
    mailbox: Annotated[str, typer.Option("--mailbox", help="Only what was in this one.")] = "",
    days: Annotated[float, typer.Option("--days", help="Only what was expunged in so many last days.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would come back.")] = False,
    as_json: Json = False,
) -> None:
    """Bring expunged messages back, where `mail.undelete_days` keeps them: as new ones, with their flags."""
    since = time.time() - days * 86_400 if days else 0.0
    wanted = canonical_name(mailbox) if mailbox else ""
    shown: list[dict[str, object]] = []
    with one(address) as files:
        for message in expunged.listing(files.path):
            if message.expunged_at >= since and wanted in ("", message.mailbox):
                when = datetime.fromtimestamp(message.expunged_at, UTC).isoformat(timespec="seconds")
                shown.append({"mailbox": message.mailbox, "expunged": when, "size_bytes": message.stored})
                if not dry_run:
                    expunged.restore(files.path, files.host, message)
    if as_json:
        terminal.print_json(shown)
        return
    if dry_run:
        terminal.print_table(("MAILBOX", "EXPUNGED", "BYTES"), [tuple(row.values()) for row in shown])
    print(f"{len(shown)} messages {'would be ' if dry_run else ''}restored")


@app.command()
def expire(addresses: Addresses = None, every: Every = False) -> None:
    """Remove what is older than `mail.trash_days`, `junk_days` and `undelete_days` allow. For a daily timer."""
    mail = terminal.settings().mail
    days = {"\\Trash": mail.trash_days, "\\Junk": mail.junk_days}
    for account, files in several(addresses, every):
        count = 0
        for box in folders.mailboxes(files):
            if box.selectable and days.get(box.special_use):
                count += upkeep.expire(files, box.name, days[box.special_use])
        count_purged = expunged.purge(files.path, mail.undelete_days)
        if count or count_purged:
            print(f"{account.email}: {count} messages expired, {count_purged} of those kept aside are gone")


# Accounts and their files.


@contextmanager
def one(address: str, *, make: bool = False) -> Iterator[AccountFiles]:
    """Raises ``Refused`` where there is no such account, or nothing of it unless it may be made."""
    for account, files in opened([address], every=False):
        if make:
            files.attempt(lambda: None)
        if not is_mailbox(files.path):
            raise Refused(NO_MAILBOX, f"{account.email} has no mailbox yet: {files.path}")
        yield files


def several(addresses: list[str] | None, every: bool) -> Iterator[tuple[Account, AccountFiles]]:
    if bool(addresses) == every:
        raise typer.BadParameter("name accounts, or --all")
    for account, files in opened(addresses or [], every=every):
        if is_mailbox(files.path):
            yield account, files
        elif not every:
            raise Refused(NO_MAILBOX, f"{account.email} has no mailbox yet: {files.path}")


def opened(addresses: list[str], *, every: bool) -> Iterator[tuple[Account, AccountFiles]]:
    async def find(directory: Directory, _: Settings) -> list[Account]:
        if every:
            return [row.account async for page in accounts.listing(directory, actor=actor()) for row in page]
        found: list[Account] = []
        for address in addresses:
            account = await directory.account(address)
            if account is None:
                raise Refused(NO_MAILBOX, f"{address}: no such account ('posthouse account list' shows them)")
            found.append(account)
        return found

    chosen = with_directory(find)
    settings = terminal.settings()
    if settings.user and os.geteuid() == 0:
        privileges.drop(_identity(settings))
    for account in chosen:
        host = filename.host_part(settings.hostname)
        root = settings.path(settings.mail.root)
        files = open_account(root, account.maildir, host, None, settings.mail.undelete_days)
        try:
            _show_mbox(files)
            yield account, files
            _show_mbox(files)
        except TryLater as error:
            if not every:
                raise
            print(printable(f"{account.email}: {error.reason}"), file=sys.stderr)
        finally:
            files.index.close()


def _show_mbox(files: AccountFiles) -> None:
    """An mbox file and the Maildir that shows it get what was changed in the other."""
    if files.mbox and (os.path.lexists(files.mbox) or is_mailbox(files.path)):
        files.attempt(lambda: None)


def _identity(settings: Settings) -> privileges.Identity:
    try:
        return privileges.look_up(settings.user)
    except KeyError:
        raise typer.BadParameter(f"user = {settings.user!r}: this system has no such user") from None


# Writing.


def _letters(files: AccountFiles, names: list[str]) -> Iterator[tuple[upkeep.Letter, bytes]]:
    for name in names:
        for letter in upkeep.letters(files, name):
            try:
                with open(letter.path, "rb") as file:
                    yield letter, file.read()
            except FileNotFoundError:
                print(printable(f"{letter.path}: renamed or gone meanwhile"), file=sys.stderr)


def _export_mbox(letters: Iterator[tuple[upkeep.Letter, bytes]], file: BinaryIO) -> int:
    count = 0
    for letter, data in letters:
        file.write(mboxformat.rendered(data, letter.flags, letter.date))
        count += 1
    return count


def _export_zip(letters: Iterator[tuple[upkeep.Letter, bytes]], file: BinaryIO) -> int:
    count = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for letter, data in letters:
            place = letter.mailbox.replace(SEPARATOR, "/")
            when = time.gmtime(min(max(letter.date, ZIP_SECONDS[0]), ZIP_SECONDS[1]))[:6]
            entry = zipfile.ZipInfo(f"{place}/{mailsources.eml_name(letter.uid, letter.flags)}", when)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
            count += 1
    return count


def _export_maildir(files: AccountFiles, letters: Iterator[tuple[upkeep.Letter, bytes]], target: Path) -> int:
    copy = AccountFiles(str(target), files.host, None)
    putting = upkeep.Putting(copy, knows_again=False)
    count = 0
    for letter, data in letters:
        count += putting.put(letter.mailbox, data, letter.flags, letter.date)
    return count


def _make_directory(target: Path, settings: Settings) -> None:
    target.mkdir(0o700)
    if settings.user and os.geteuid() == 0:
        user = pwd.getpwnam(settings.user)
        os.chown(target, user.pw_uid, user.pw_gid)


def _remove(target: Path) -> None:
    """What was not finished; where it can't go any more, as another user, it stays."""
    try:
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    except OSError:
        print(f"{target} is not complete", file=sys.stderr)


def _told(each: Iterator[T], done: str) -> Iterator[T]:
    """Says on a terminal how far it is."""
    shows = sys.stderr.isatty()
    for count, one in enumerate(each, 1):
        yield one
        if shows and count % 100 == 0:
            print(f"\r{count} {done}", end="", file=sys.stderr, flush=True)
    if shows:
        print("\r", end="", file=sys.stderr)
