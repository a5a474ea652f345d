"""Keys of URLs that others may use (RFC 4467 §2): one a mailbox, ``posthouse-urlauth`` in its directory. Blocking.

A mailbox that is deleted takes its key along, and with it all that was allowed.
"""

import contextlib
import os
import secrets

from posthouse.store import folders
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.dotlock import Dotlock
from posthouse.store.layout import INBOX, replace_file

KEY_BYTES = 32


def read(files: AccountFiles, name: str) -> bytes | None:
    """None where there is no key. Raises NoSuchMailbox."""
    try:
        with open(_path(files, name), "rb") as file:
            key = file.read()
    except FileNotFoundError:
        return None
    return key if len(key) == KEY_BYTES else None


def made(files: AccountFiles, name: str) -> bytes:
    """The key, which is made if need be. Raises NoSuchMailbox."""
    path = _path(files, name)
    with Dotlock(path):
        key = read(files, name)
        if key is None:
            key = secrets.token_bytes(KEY_BYTES)
            replace_file(path, key)
    return key


def reset(files: AccountFiles, name: str) -> None:
    """A new key, or where ``name`` is empty none any more for all mailboxes. Raises NoSuchMailbox."""
    for each in [name] if name else [INBOX, *folders.existing_names(files)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_path(files, each))
    if name:
        made(files, name)


def _path(files: AccountFiles, name: str) -> str:
    return f"{files.existing(name).path}/posthouse-urlauth"
