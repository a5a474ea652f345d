"""Before the first process serves: directories, a certificate, the database, and recovery after a crash."""

import asyncio
import os
from pathlib import Path

from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.servers import import_driver
from posthouse.directory.sqlite import SCHEME
from posthouse.directory.version import is_current
from posthouse.filters.quarantine import DIRECTORY as QUARANTINE
from posthouse.filters.quarantine import Quarantine
from posthouse.journal.recovery import recover
from posthouse.mailqueue.spool import Spool
from posthouse.runtime.log import log
from posthouse.runtime.tls import make_self_signed
from posthouse.store.recovery import find_message

DIRECTORIES = ("journal", "tmp")


def import_early(settings: Settings) -> None:
    """Load what ``prepare`` will need of the program's own files, while we may surely read them."""
    import_driver(settings)
    url = settings.database.url
    if url.startswith(SCHEME) and not is_current(settings.path(url.removeprefix(SCHEME))):
        import posthouse.directory.migrations.file  # noqa: F401 - a third of a second, and seldom needed


def prepare(settings: Settings) -> None:
    """Make what is missing and bring back what the journal has. Raises ``OSError`` naming what can't be made."""
    data = Path(settings.data_dir)
    for name in DIRECTORIES:
        (data / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(settings.path(settings.mail.root)).mkdir(mode=0o700, parents=True, exist_ok=True)
    Spool(str(data / "queue")).prepare()
    Quarantine(str(data / QUARANTINE)).prepare()
    _certificate(settings)
    # Whatever hosts the database may start after us, as after a power cut.
    check_directory(settings, may_be_away=True)
    _forget_unfinished(data / "tmp")
    _recover(settings)


def _certificate(settings: Settings) -> None:
    certificate, key = settings.path(settings.tls.certificate), settings.path(settings.tls.key)
    if not os.path.exists(certificate) and not os.path.exists(key):
        make_self_signed(certificate, key, settings.hostname)
        log.info("certificate-made", certificate=certificate, hostname=settings.hostname, kind="self-signed")


def check_directory(settings: Settings, *, may_be_away: bool = False) -> None:
    """Make or look at the directory's database. Raises ``TryLater``, see ``Directory.open``."""

    async def check() -> None:
        directory = Directory(settings)
        await directory.open(may_be_away=may_be_away)
        await directory.close()

    asyncio.run(check())


def _forget_unfinished(directory: Path) -> None:
    """What was on its way in when we stopped was never acknowledged: its sender has it still."""
    for entry in os.scandir(directory):
        os.unlink(entry.path)


def _recover(settings: Settings) -> None:
    """Bring back what the journal has, and remove what it knows to be delivered although the disk forgot."""
    queue = settings.path("queue")
    report = recover(settings.path("journal"), find_message)
    for path in report.remaining:
        if path.startswith(queue + os.sep):
            os.unlink(path)
    if report.power_failed:
        log.warning(
            "recovered-after-power-failure",
            records=report.records,
            restored=len(report.restored),
            rewritten=len(report.rewritten),
            lines=report.lines,
        )
    elif report.records:
        log.info("recovered", records=report.records)
