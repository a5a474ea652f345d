"""What every process that handles mail is made of, opened and closed in the right order."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from posthouse.app.process import SEARCH_SOCKET
from posthouse.base.clock import SystemClock
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.journal.journal import Journal
from posthouse.mailqueue.spool import Spool
from posthouse.runtime.watch import Watch
from posthouse.services.indexprocess import Hints
from posthouse.services.outlets import Outlets
from posthouse.services.placement import Placement
from posthouse.store.store import Store


@dataclass(slots=True)
class Parts:
    """What every process that handles mail is made of."""

    settings: Settings
    directory: Directory
    journal: Journal
    watch: Watch
    store: Store
    spool: Spool
    placement: Placement


def start_journal(directory: Path, process: str, durability: str) -> Journal:
    """A journal for this process. Raises ``OSError``.

    After a reload the process that it replaces may have the first one still, and then this takes another. What one
    that crashed left in any of them is made durable now: nobody else comes by before the next start.
    """
    mine: Journal | None = None
    for number in itertools.count():
        path = directory / (f"{process}.{number}" if number else process)
        if mine is not None and not path.exists():
            return mine
        journal = Journal(str(path), durability=durability)
        try:
            journal.start()
        except BlockingIOError:
            continue
        if mine is None:
            mine = journal
        else:
            journal.close()
    raise AssertionError("count() has no end")


@contextlib.asynccontextmanager
async def parts(settings: Settings, process: str) -> AsyncIterator[Parts]:
    """Everything one process shares, opened, and closed again in the right order."""
    data = Path(settings.data_dir)
    directory = Directory(settings)
    await directory.open(may_be_away=True)
    journal = start_journal(data / "journal", process, settings.mail.durability)
    watch = Watch()
    mail = settings.mail
    hints = Hints(settings.path(SEARCH_SOCKET))
    store = Store(
        settings.path(mail.root),
        journal,
        watch,
        hostname=settings.hostname,
        undelete_days=mail.undelete_days,
        search_index=mail.search_index,
        ask_index=hints,
    )
    spool = Spool(str(data / "queue"))
    placement = Placement(directory, store, spool, journal, SystemClock(), Outlets(settings))
    try:
        yield Parts(settings, directory, journal, watch, store, spool, placement)
    finally:
        store.close()
        hints.close()
        watch.close()
        journal.close()
        await directory.close()
