"""The audit log: who changed what, when and from where. Nobody's password is ever in it."""

from sqlalchemy import insert, or_, select

from posthouse.directory import schema
from posthouse.directory.model import Actor
from posthouse.directory.records import PAGE_ROWS, AuditEntry, text
from posthouse.directory.tables.base import Rows, escaped, now

_audit = schema.audit
MAX_DETAIL = 2_000
"""Characters of a detail that are kept."""


class AuditRows(Rows):
    """Entries are only ever added."""

    is_audited = False
    """Whether this transaction has an entry."""

    async def audit(self, what: str, subject: str, detail: str = "") -> None:
        """Say what is being changed: ``account add``, the object's key, and what else is worth knowing."""
        actor: Actor = self.actor
        shown = detail if len(detail) <= MAX_DETAIL else f"{detail[: MAX_DETAIL - 1]}…"
        values = {
            "when": now(),
            "who": actor.name,
            "what": what,
            "object": subject,
            "detail": shown,
            "source": actor.source,
        }
        self.is_audited = True
        await self.execute(insert(_audit), [values])

    async def audit_log(
        self, *, subject: str = "", who: str = "", since: str = "", before: int | None = None, limit: int = PAGE_ROWS
    ) -> list[AuditEntry]:
        """Entries, newest first, from below the id ``before``.

        ``subject`` is an object or a domain, which stands for its addresses too; ``since`` is a time as in ``when``.
        """
        statement = select(_audit.c.id, *(_audit.c[n] for n in ("when", "who", "what", "object", "detail", "source")))
        if subject:
            within = _audit.c.object.like(f"%@{escaped(subject)}", escape="!")
            statement = statement.where(or_(_audit.c.object == subject, within))
        if who:
            statement = statement.where(_audit.c.who == who)
        if since:
            statement = statement.where(_audit.c.when >= since)
        if before is not None:
            statement = statement.where(_audit.c.id < before)
        found = await self.execute(statement.order_by(_audit.c.id.desc()).limit(limit))
        return [AuditEntry(int(row[0]), *map(text, row[1:])) for row in found]
