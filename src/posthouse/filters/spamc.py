"""SpamAssassin, asked as spamc asks spamd: a score, and what a user says of a message."""

from collections.abc import Iterable, Sequence
from typing import Any

from posthouse.config.endpoints import Endpoint
from posthouse.filters.exchange import ask
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.verdict import Action, Finding, Verdict
from posthouse.protocols.spamc import client
from posthouse.protocols.spamc.client import Broken, Learned, Scored, SpamdAnswer

_MOST_SYMBOLS = 40


class SpamcFilter:
    """``servers``: spamd, in order of preference. Of a single recipient it is told who that is, so that its settings
    by user count (``spamd --virtual-config-dir``, ``--sql-config``)."""

    def __init__(self, name: str, servers: Sequence[Endpoint]) -> None:
        self.name = name
        self._servers = tuple(servers)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def judge(self, mail: Mail) -> Verdict:
        user = mail.recipients[0] if len(mail.recipients) == 1 else ""
        event = await self._ask(client.check(len(mail.prefix) + mail.size, user), mail)
        if not isinstance(event, Scored):
            raise FilterTrouble("its answer has no score")
        symbols = ", ".join(event.symbols[:_MOST_SYMBOLS])
        shown = f"score {event.score:g} of {event.threshold:g}"
        headers = [("X-Spam-Score", f"{event.score:g} / {event.threshold:g}")]
        if event.is_spam:
            headers.append(("X-Spam", "Yes"))
        return Verdict(
            self.name,
            Action.JUNK if event.is_spam else Action.ACCEPT,
            event.score,
            (f"{shown}: {symbols}",),
            tuple(headers),
            findings=(Finding("spam", shown),) if event.is_spam else (),
        )

    async def learn(self, mail: Mail, account: str, *, is_spam: bool) -> bool:
        """Tell it what a user thinks of a message; whether that was new to it. Raises ``FilterTrouble``."""
        head = client.learn(len(mail.prefix) + mail.size, is_spam=is_spam, user=account)
        event = await self._ask(head, mail)
        return isinstance(event, Learned) and "local" in event.changed

    async def _ask(self, head: bytes, mail: Mail) -> Scored | Learned:
        def question() -> Iterable[bytes]:
            yield head
            yield mail.prefix
            yield from mail.content.chunks()

        return await ask(self._servers, question, SpamdAnswer, _accept)


def _accept(event: Any) -> Any:
    if isinstance(event, Broken):
        raise FilterTrouble(event.reason)
    return event
