"""A virus scanner that speaks ICAP (RFC 3507): the message is sent to it as if a web server had answered with it."""

from collections.abc import Iterable, Sequence

from posthouse.config.endpoints import Endpoint
from posthouse.filters.exchange import ask
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.verdict import Action, Finding, Verdict
from posthouse.protocols.icap import client
from posthouse.protocols.icap.client import Broken, Event, Found, IcapAnswer


class IcapFilter:
    """``servers`` in order of preference; ``service``: the path of theirs that scans, such as ``avscan``."""

    def __init__(self, name: str, servers: Sequence[Endpoint], service: str) -> None:
        self.name = name
        self._servers = tuple(servers)
        self._service = service.lstrip("/")

    async def close(self) -> None:
        """Nothing is kept open."""

    async def judge(self, mail: Mail) -> Verdict:
        host = str(self._servers[0])

        def question() -> Iterable[bytes]:
            yield client.request(self._service, host, f"{mail.trace_id}.eml")
            for piece in mail.content.chunks():
                yield client.chunk(piece)
            yield client.end()

        return await ask(self._servers, question, IcapAnswer, self._verdict)

    def _verdict(self, event: Event) -> Verdict:
        if isinstance(event, Broken):
            raise FilterTrouble(event.reason)
        if isinstance(event, Found):
            return Verdict(self.name, Action.REJECT, findings=(Finding("virus", event.name),))
        return Verdict(self.name, reasons=("no virus",))
