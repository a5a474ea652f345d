"""The mailboxes of an account: which there are, making and removing them, subscriptions, special uses. Blocking.

Subscriptions are Dovecot's ``subscriptions`` file, one name a line in modified UTF-7 (its version 2 is read
too); as long as there is none, Courier's count. What CREATE said of a mailbox's use (RFC 6154) is in
``posthouse-special-use``; without that, names that clients commonly use for it count.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable

from posthouse.protocols.imap import mutf7
from posthouse.protocols.imap.wildcards import above, is_shared
from posthouse.store import acl, courier, expunged, filename, metadata, sync
from posthouse.store.accountfiles import AccountFiles, is_inbox, is_mailbox
from posthouse.store.changes import rows
from posthouse.store.copying import copy
from posthouse.store.dotlock import Dotlock
from posthouse.store.errors import BadMailboxName, HasChildren, MailboxExists, NoSuchMailbox
from posthouse.store.layout import (
    INBOX,
    SEPARATOR,
    Folder,
    canonical_name,
    make_folder,
    name_of,
    replace_file,
    sync_directory,
)
from posthouse.store.model import MailboxInfo

USUAL_NAMES = {
    "sent": "\\Sent",
    "sent items": "\\Sent",
    "sent messages": "\\Sent",
    "drafts": "\\Drafts",
    "trash": "\\Trash",
    "deleted items": "\\Trash",
    "deleted messages": "\\Trash",
    "junk": "\\Junk",
    "spam": "\\Junk",
    "archive": "\\Archive",
}
LONGEST_SHARED = 1000
SPECIAL_USES = frozenset({"\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash"})


def mailboxes(files: AccountFiles) -> list[MailboxInfo]:
    """INBOX first, then all others by name, with parents and subscriptions that are no mailboxes."""
    real = {INBOX, *existing_names(files)}
    subscribed = set(_names(_subscribed(files)))
    names = real | subscribed
    with_children: set[str] = set()
    for name in list(names):
        while SEPARATOR in name:
            name = name.rpartition(SEPARATOR)[0]
            names.add(name)
            with_children.add(name)
    uses = _special_uses(files, real)
    return [
        MailboxInfo(name, uses.get(name, ""), name in subscribed, name in real, name in with_children)
        for name in sorted(names, key=lambda name: (name != INBOX, name))
    ]


def existing_names(files: AccountFiles) -> list[str]:
    """All but INBOX, in no order."""
    try:
        entries = os.listdir(files.path)
    except FileNotFoundError:
        return []
    return list(
        {name for entry in entries if (name := name_of(entry)) is not None and is_mailbox(f"{files.path}/{entry}")}
    )


def identities(files: AccountFiles) -> dict[str, str]:
    """What each mailbox keeps when it is renamed, and no other ever has: UIDVALIDITY and GUID of its uidlist."""
    found: dict[str, str] = {}
    for name in existing_names(files):
        folder = files.folder(name)
        try:
            with open(folder.uidlist, encoding="utf-8", errors="replace") as file:
                words = file.readline().split()
        except FileNotFoundError:
            words = []
        kept = " ".join(word for word in words if word[0] in "VG")
        found[name] = kept or folder.path
    return found


def create(files: AccountFiles, name: str, special_use: str = "") -> str:
    """Returns what the mailbox is known by."""
    name = canonical_name(name)
    folder = files.folder(name)
    if name == INBOX or is_mailbox(folder.path):
        raise MailboxExists(name)
    if special_use and special_use not in SPECIAL_USES:
        raise BadMailboxName(name, "No such special use")
    with files.index.changing() as database:
        # Rows of a mailbox that somebody else removed: this is another one.
        database.execute("DELETE FROM mailbox WHERE folder = ?", (folder.name,))
        make_folder(folder)
        _inherit(files, folder, name)
        box = sync.synchronise(database, folder, files.host, move_new=False)
        sync_directory(files.path)
    if special_use:
        _change(_uses(files), lambda lines: {*lines, f"{special_use} {_coded(name)}"})
    return box.guid


def _inherit(files: AccountFiles, folder: Folder, name: str) -> None:
    """The nearest mailbox above says who else may do what here (RFC 4314 §4)."""
    for parent in reversed(above(name)):
        if is_mailbox((found := files.folder(parent)).path):
            acl.inherit(found, folder)
            return


def delete(files: AccountFiles, name: str) -> None:
    name = canonical_name(name)
    if name == INBOX:
        raise BadMailboxName(name, "INBOX cannot be deleted")
    folder = files.folder(name)
    with files.index.changing() as database:
        if not is_mailbox(folder.path):
            if any(other.startswith(name + SEPARATOR) for other in existing_names(files)):
                raise HasChildren(name)
            raise NoSuchMailbox(name)
        doomed = f"{files.folder(INBOX).tmp}/{filename.unique_base(files.host, time.time_ns())}"
        os.rename(folder.path, doomed)  # gone at once, for everybody
        database.execute("DELETE FROM mailbox WHERE folder = ?", (folder.name,))
    sync_directory(files.path)
    if files.undelete_days:
        expunged.set_aside_folder(files.path, Folder(doomed, ""), folder.name)
    shutil.rmtree(doomed, ignore_errors=True)
    _forget_count(files)
    _change(_uses(files), lambda lines: {line for line in lines if line.partition(" ")[2] != _coded(name)})


def rename(files: AccountFiles, old: str, new: str) -> None:
    """With all children (RFC 3501 §6.3.5). From INBOX only the messages move."""
    old, new = canonical_name(old), canonical_name(new)
    if is_inbox(new) or is_mailbox(files.folder(new).path):
        raise MailboxExists(new)
    if old == INBOX:
        create(files, new)
        _move_everything(files, new)
        metadata.copy(files, old, new)
        return
    if new.startswith(old + SEPARATOR):
        raise BadMailboxName(new, "A mailbox cannot become its own child")
    with files.index.changing() as database:
        moves = {
            name: canonical_name(new + name[len(old) :])
            for name in existing_names(files)
            if name == old or name.startswith(old + SEPARATOR)
        }
        if not moves:
            raise NoSuchMailbox(old)
        for target in moves.values():
            if is_mailbox(files.folder(target).path):
                raise MailboxExists(target)
        for name, target in moves.items():
            before, after = files.folder(name), files.folder(target)
            os.rename(before.path, after.path)
            database.execute("DELETE FROM mailbox WHERE folder = ?", (after.name,))
            database.execute("UPDATE mailbox SET folder = ? WHERE folder = ?", (after.name, before.name))
    sync_directory(files.path)
    coded = {_coded(name): _coded(target) for name, target in moves.items()}
    _change(_uses(files), lambda lines: {_moved(line, coded) for line in lines})


def subscribe(files: AccountFiles, name: str) -> None:
    coded = _coded(_subscribable(name))
    _change(f"{files.path}/subscriptions", lambda lines: {*lines, coded}, lambda: _subscribed(files))


def unsubscribe(files: AccountFiles, name: str) -> None:
    coded = _coded(_subscribable(name))
    _change(f"{files.path}/subscriptions", lambda lines: lines - {coded}, lambda: _subscribed(files))


def shared_subscriptions(files: AccountFiles) -> list[str]:
    """Names of others' mailboxes, which are subscribed here."""
    names: list[str] = []
    for line in _subscribed(files):
        with contextlib.suppress(ValueError, BadMailboxName):
            name = mutf7.decode(line.encode("ascii"))
            if is_shared(name):
                names.append(_subscribable(name))
    return names


def _subscribable(name: str) -> str:
    if not is_shared(name):
        return canonical_name(name)
    for part in name.split("/"):
        canonical_name(part)
    if len(name) > LONGEST_SHARED:
        raise BadMailboxName(name, "This mailbox name is too long")
    return name


def _move_everything(files: AccountFiles, target: str) -> None:
    inbox = files.existing(INBOX)
    with files.index.changing() as database:
        box = sync.synchronise(database, inbox, files.host, move_new=True)
        uids = [message.uid for message in rows(database, box, None)]
    copy(files, inbox, files.existing(target), uids, None, move=True)


def _forget_count(files: AccountFiles) -> None:
    """Many messages went: they are counted anew."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{files.path}/maildirsize")


def _subscribed(files: AccountFiles) -> list[str]:
    path = f"{files.path}/subscriptions"
    return _lines(path) or ([] if os.path.lexists(path) else list(map(_coded, courier.subscriptions(files.path))))


def _uses(files: AccountFiles) -> str:
    return f"{files.path}/posthouse-special-use"


def _special_uses(files: AccountFiles, real: Iterable[str]) -> dict[str, str]:
    stated: dict[str, str] = {}
    for line in _lines(_uses(files)):
        use, _, coded = line.partition(" ")
        with contextlib.suppress(ValueError):
            stated[mutf7.decode(coded.encode())] = use
    taken = set(stated.values())
    for name in sorted(real):
        use = USUAL_NAMES.get(name.lower())
        if use and use not in taken and name not in stated:
            stated[name] = use
            taken.add(use)
    return stated


def _moved(line: str, coded: dict[str, str]) -> str:
    use, _, name = line.partition(" ")
    return f"{use} {coded.get(name, name)}"


def _coded(name: str) -> str:
    return mutf7.encode(name).decode("ascii")


def _names(lines: Iterable[str]) -> list[str]:
    names: list[str] = []
    for line in lines:
        with contextlib.suppress(ValueError, BadMailboxName):
            names.append(canonical_name(mutf7.decode(line.encode("ascii"))))
    return names


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return []
    if lines[0].startswith("V\t2"):  # Dovecot's version 2: parts of a name are separated by tabs
        lines = [line.replace("\t", SEPARATOR) for line in lines[1:]]
    return [line for line in lines if line]


def _change(path: str, edit: Callable[[set[str]], set[str]], read: Callable[[], list[str]] | None = None) -> None:
    lines = read or (lambda: _lines(path))
    if edit(before := set(lines())) == before:
        return
    with Dotlock(path):
        replace_file(path, "".join(f"{line}\n" for line in sorted(edit(set(lines())))).encode())
