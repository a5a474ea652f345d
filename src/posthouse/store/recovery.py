"""Where a message's file lies now: what the journal asks when it recovers."""

import os

from posthouse.store import filename
from posthouse.store.quota import directories


def find_message(path: str) -> str | None:
    """The file that was once put at ``path``: there, or renamed by a reader within its account; None if nowhere.

    A path outside ``new/`` and ``cur/`` is no message's and only looked for where it was.
    """
    if os.path.lexists(path):
        return path
    directory, _, name = path.rpartition("/")
    folder, _, place = directory.rpartition("/")
    if place not in ("new", "cur"):
        return None
    account = os.path.dirname(folder) if os.path.basename(folder).startswith(".") else folder
    base = filename.split(name)[0]
    for there in directories(account):
        try:
            entries = os.listdir(there)
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.startswith(base) and filename.split(entry)[0] == base:
                return os.path.join(there, entry)
    return None
