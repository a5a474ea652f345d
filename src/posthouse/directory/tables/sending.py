"""What logins may send as beyond their own addresses, and how much they may send."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, insert, select

from posthouse.directory import schema
from posthouse.directory.model import SendingLimits
from posthouse.directory.records import PAGE_ROWS, text
from posthouse.directory.tables.base import Rows, chunks

_senders = schema.senders
_limits = schema.limits


class SendingRows(Rows):
    """Names are look-up keys; ``@domain`` is every address there, or each of its accounts."""

    async def senders(self, login: str) -> list[str]:
        """What a login may send as, in order."""
        statement = select(_senders.c.address).where(_senders.c.login == login).order_by(_senders.c.address)
        return [text(row[0]) for row in await self.execute(statement)]

    async def senders_below(self, domain: str, after: tuple[str, str] = ("", "")) -> list[tuple[str, str]]:
        """The next logins with what each may send as; of one ``domain``, or of all where that is empty.

        None: there are no more.
        """
        login, address = _senders.c.login, _senders.c.address
        statement = select(login, address).order_by(login, address).limit(PAGE_ROWS)
        statement = statement.where(login >= after[0], (login > after[0]) | (address > after[1]))
        if domain:
            statement = statement.where(self.in_domain(login, domain))
        return [(text(row[0]), text(row[1])) for row in await self.execute(statement)]

    async def add_sender(self, login: str, address: str) -> None:
        await self.execute(insert(_senders), [{"login": login, "address": address}])

    async def remove_sender(self, login: str, address: str) -> None:
        await self.execute(delete(_senders).where(_senders.c.login == login, _senders.c.address == address))

    async def limits(self, name: str) -> SendingLimits:
        """What is set under one name."""
        names = [column.name for column in _limits.c if column.name != "name"]
        statement = select(*(_limits.c[each] for each in names)).where(_limits.c.name == name)
        return next(
            (SendingLimits(**dict(zip(names, row, strict=True))) for row in await self.execute(statement)),
            SendingLimits(),
        )

    async def set_limits(self, name: str, limits: SendingLimits) -> None:
        """Have these, or none where nothing is said."""
        await self.execute(delete(_limits).where(_limits.c.name == name))
        if limits != SendingLimits():
            await self.execute(insert(_limits), [{"name": name, **asdict(limits)}])

    async def forget_sending(self, names: Sequence[str]) -> None:
        """Logins or domains are no more: nothing is left for whoever has the same name later."""
        for few in chunks(names):
            await self.execute(delete(_senders).where(_senders.c.login.in_(few)))
            await self.execute(delete(_limits).where(_limits.c.name.in_(few)))
