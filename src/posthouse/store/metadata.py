"""Annotations of mailboxes (RFC 5464), in a file ``posthouse-metadata`` in each mailbox's directory. Blocking.

Lines ``<entry> <user> <value>``, entry and value percent-coded: ``/private/comment owner My%20own``. The user is
``-`` for what is shared, ``owner`` for the account's own, else a login. What belongs to the account as a whole is in
``posthouse-metadata-account`` beside INBOX. Being where the messages are, they go wherever the mailbox goes, and with
it.
"""

import contextlib
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from posthouse.store.accountfiles import AccountFiles
from posthouse.store.dotlock import Dotlock
from posthouse.store.errors import TooLongMetadata, TooMuchMetadata
from posthouse.store.layout import replace_file

MAX_VALUE_BYTES = 65_536
MAX_ENTRIES = 100
"""Of what one user sees of one mailbox."""
MAX_FILE_BYTES = 4 << 20
SHARED, OWNER = "-", "owner"
Key = tuple[str, str]
"""Entry and user."""


def read(files: AccountFiles, name: str, user: str) -> dict[str, bytes]:
    """By entry, in lower case: what is shared, and the user's own."""
    kept = _read(_path(files, name))
    return {entry: value for (entry, whose), value in kept.items() if whose in (SHARED, user or OWNER)}


def change(files: AccountFiles, name: str, user: str, values: Sequence[tuple[str, bytes | None]]) -> None:
    """Sets, or takes away what is None; all or none."""
    path = _path(files, name)
    for entry, value in values:
        if value is not None and len(value) > MAX_VALUE_BYTES:
            raise TooLongMetadata(entry)
    with Dotlock(path):
        kept = _read(path)
        before = len(kept)
        for entry, value in values:
            key = (entry, SHARED if entry.startswith("/shared/") else user or OWNER)
            kept.pop(key, None)
            if value is not None:
                kept[key] = value
        data = "".join(f"{_coded(entry)} {_coded(whose)} {_coded(value)}\n" for (entry, whose), value in kept.items())
        seen = sum(1 for _, whose in kept if whose in (SHARED, user or OWNER))
        if (len(kept) > before and seen > MAX_ENTRIES) or len(data) > MAX_FILE_BYTES:
            raise TooMuchMetadata(path)
        replace_file(path, data.encode("ascii"))


def copy(files: AccountFiles, name: str, target: str) -> None:
    """The target gets what the other mailbox has (RFC 5464 §4.1: INBOX, when it is renamed, keeps its own)."""
    with contextlib.suppress(FileNotFoundError), open(_path(files, name), "rb") as file:
        replace_file(_path(files, target), file.read())


def _path(files: AccountFiles, name: str) -> str:
    return f"{files.existing(name).path}/posthouse-metadata" if name else f"{files.path}/posthouse-metadata-account"


def _read(path: str) -> dict[Key, bytes]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = [line.rstrip("\n").split(" ") for line in file]
    except FileNotFoundError:
        return {}
    decoded = [tuple(map(unquote_to_bytes, line)) for line in lines if len(line) == 3]
    return {(entry.decode("latin-1"), user.decode("utf-8", "replace")): value for entry, user, value in decoded}


def _coded(value: str | bytes) -> str:
    return quote(value, safe="/@")
