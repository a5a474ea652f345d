"""The audit log, newest first: who changed what, when and from where."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.directory.records import AuditEntry
from posthouse.message.address import lookup_key
from posthouse.services import access
from posthouse.services.changes import NotChanged

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

_PAGE = 500
_AGO = re.compile(r"(\d{1,5})([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


async def listing(
    directory: Directory, *, actor: Actor, subject: str = "", who: str = "", since: str = "", limit: int = 100
) -> AsyncIterator[AuditEntry]:
    """At most ``limit`` entries; ``subject`` is an object, or a domain and all of its. Raises ``NotChanged``."""
    key = lookup_key(subject)
    if actor.domains is not None:
        access.check(actor, key.rpartition("@")[2])
    begin = since_time(since, datetime.now(UTC)) if since else ""
    before: int | None = None

    async def read(tables: "Tables") -> list[AuditEntry]:
        return await tables.audit_log(subject=key, who=who, since=begin, before=before, limit=min(limit, _PAGE))

    while limit > 0 and (found := await directory.read(read)):
        for entry in found:
            yield entry
        limit -= len(found)
        before = found[-1].id


def since_time(text: str, now: datetime) -> str:
    """A time as the log has it: ``2026-11-22``, ``2026-11-22T21:00``, or ``30m``, ``2h``, ``7d``, ``4w`` ago."""
    if ago := _AGO.fullmatch(text):
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise NotChanged(
                f"{text!r} is not a time: expected 2026-11-22, 2026-11-22T21:00 (UTC), or 2h, 7d"
            ) from None
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
