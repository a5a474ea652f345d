"""Who may do what in a mailbox besides its owner (RFC 4314), in Courier's file ``courierimapacl``. Blocking.

Lines ``<identifier> <rights>``: ``user=bob@example.com lrs``, ``anyone lr``; ``-user=…`` takes away what others give.
The owner may do everything in his own mailboxes, whatever a line says; lines for ``administrators``, ``anonymous``
and groups, which Courier knows, are kept and give nobody anything. A mailbox without the file is the owner's alone.

Invariant: rights are what the file says at this moment. Nothing else gives any: not the mailbox above, not an index.
"""

import os
from collections.abc import Mapping

from posthouse.message.address import lookup_key, split
from posthouse.protocols.imap import rights
from posthouse.store.dotlock import Dotlock
from posthouse.store.layout import Folder, replace_file

FILE_NAME = "courierimapacl"
ANYONE = "anyone"
Entries = dict[str, frozenset[str]]
"""Rights by identifier, as it is written in the file."""
_SPECIAL = frozenset({ANYONE, "owner", "anonymous", "administrators"})


def written(identifier: str) -> str:
    """How the file has an identifier; ``user=`` and ``group=`` may be said."""
    minus = "-" if identifier.startswith("-") else ""
    name = identifier.removeprefix("-")
    if name in _SPECIAL or name.startswith("group="):
        return minus + name
    return f"{minus}user={lookup_key(name.removeprefix('user='))}"


def shown(entry: str) -> str:
    """The identifier as IMAP has it: a user's is his login."""
    minus = "-" if entry.startswith("-") else ""
    return minus + entry.removeprefix("-").removeprefix("user=")


def read(folder: Folder) -> Entries:
    """What the file says; nothing where there is none. Letters that are no rights are left out."""
    try:
        with open(f"{folder.path}/{FILE_NAME}", encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    entries: Entries = {}
    for line in lines:
        entry, _, letters = line.strip().partition(" ")
        if entry:
            known = "".join(letter for letter in letters if letter in rights.ALL or letter in rights.VIRTUAL)
            entries[written(entry)] = rights.parse(known)
    return entries


def rights_of(entries: Mapping[str, frozenset[str]], login: str, owner: str) -> frozenset[str]:
    """What ``login`` may: what it is given, or anyone in the owner's domain, less what is taken away."""
    names = [f"user={login}"]
    if split(login)[1] == split(owner)[1]:
        names.append(ANYONE)
    given = [entries.get(name, rights.NONE) for name in names]
    taken = [entries.get(f"-{name}", rights.NONE) for name in names]
    return rights.NONE.union(*given).difference(*taken)


def change(folder: Folder, identifier: str, mode: str, changed: frozenset[str]) -> None:
    """``add``, ``remove`` or ``replace``; an identifier without rights is taken out."""
    path = f"{folder.path}/{FILE_NAME}"
    with Dotlock(path):
        entries = read(folder)
        entry = written(identifier)
        before = entries.get(entry, rights.NONE)
        after = before | changed if mode == "add" else before - changed if mode == "remove" else changed
        entries[entry] = after
        if not after:
            del entries[entry]
        lines = [f"{entry} {rights.spelled(letters)}\n" for entry, letters in entries.items()]
        replace_file(path, "".join(lines).encode())


def inherit(parent: Folder, child: Folder) -> None:
    """A mailbox that is made begins with the rights of the one above it (RFC 4314 §4)."""
    try:
        with open(f"{parent.path}/{FILE_NAME}", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return
    replace_file(f"{child.path}/{FILE_NAME}", data)


class Access:
    """What one login may do in one mailbox of somebody else's."""

    __slots__ = ("_folder", "_rights", "_stamp", "login", "owner")

    def __init__(self, folder: Folder, login: str, owner: str) -> None:
        self._folder = folder
        self.login = login
        self.owner = owner
        self._stamp = (0, 0, 0)
        self._rights = rights.NONE

    def rights(self) -> frozenset[str]:
        """As the file is now."""
        try:
            state = os.stat(f"{self._folder.path}/{FILE_NAME}")
        except OSError:
            return rights.NONE
        stamp = (state.st_mtime_ns, state.st_ino, state.st_size)
        if stamp != self._stamp:
            self._rights = rights_of(read(self._folder), self.login, self.owner)
            self._stamp = stamp
        return self._rights
