"""Who may have been given rights by whom: how a login finds the mailboxes that others share with it. Blocking.

A file for each login, ``.posthouse-shares/<login>`` in the mail root, and ``@<domain>`` for anyone in a domain; a
line is an owner. It only says where to look: what somebody may do is in the mailboxes (acl.py). An owner who stands
here and has given nothing any more does no harm, one who is missing is not found until ``note`` says so again.
"""

import os
from urllib.parse import quote

from posthouse.message.address import split
from posthouse.protocols.imap import rights
from posthouse.store import acl, folders
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.dotlock import Dotlock
from posthouse.store.layout import INBOX, replace_file

DIRECTORY = ".posthouse-shares"


class Shares:
    """Those of one mail root."""

    __slots__ = ("_directory",)

    def __init__(self, mail_root: str) -> None:
        self._directory = f"{mail_root}/{DIRECTORY}"

    def owners(self, login: str) -> list[str]:
        """Others who share something with this login, or with its domain."""
        found = {*self._read(login), *self._read(f"@{split(login)[1]}")}
        return sorted(found - {login})

    def note(self, files: AccountFiles, owner: str, entries: set[str] | None = None) -> None:
        """After rights changed in an account: of these identifiers (as ``acl.written`` has them), or of all."""
        given: set[str] = set()
        for name in (INBOX, *folders.existing_names(files)):
            given |= {entry for entry, letters in acl.read(files.folder(name)).items() if letters}
        for entry in given if entries is None else entries:
            grantee = f"@{split(owner)[1]}" if entry == acl.ANYONE else entry.removeprefix("user=")
            if "@" in grantee and not entry.startswith(("-", "group=")):
                self._set(grantee, owner, is_in=entry in given)

    def _set(self, grantee: str, owner: str, *, is_in: bool) -> None:
        if (owner in self._read(grantee)) == is_in:
            return
        os.makedirs(self._directory, 0o700, exist_ok=True)
        with Dotlock(self._path(grantee)):
            owners = {*self._read(grantee), owner} if is_in else self._read(grantee) - {owner}
            replace_file(self._path(grantee), "".join(f"{each}\n" for each in sorted(owners)).encode())

    def _read(self, grantee: str) -> set[str]:
        try:
            with open(self._path(grantee), encoding="utf-8", errors="replace") as file:
                return set(filter(None, file.read().split("\n")))
        except FileNotFoundError:
            return set()

    def _path(self, grantee: str) -> str:
        # Where two names become one by this, it is only looked in vain.
        return f"{self._directory}/{quote(grantee, safe='@')[:240]}"


def visible(files: AccountFiles, login: str, owner: str) -> list[str]:
    """The mailboxes of an account that a login may look up; INBOX first."""
    names = [INBOX, *sorted(folders.existing_names(files))]
    return [name for name in names if rights.VISIBLE in acl.rights_of(acl.read(files.folder(name)), login, owner)]
