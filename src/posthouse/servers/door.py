"""What happens between a client's connection and its greeting: who it is, whether there is room, whether it waits.

Invariants:
  1. What a proxy says of its client counts from the networks that are named for it only, and then it has to be said.
  2. Who speaks before the greeting (RFC 5321 §3.1) is turned away; who has waited once need not for a day.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from posthouse.base.errors import Reply
from posthouse.config.settings import Settings
from posthouse.protocols.proxy import ProxyHeader, read_header
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log
from posthouse.services.networks import is_in
from posthouse.services.rates import Rates

PROXY_SECONDS = 10.0
REMEMBERED_SECONDS = 86_400.0
MAX_REMEMBERED = 20_000
TOO_EARLY = Reply(554, "5.5.1", "Protocol error: you spoke before you were greeted")


class TurnedAway(Exception):
    """Nothing is said to this one; the text is for the log."""


@dataclass(slots=True)
class Door:
    """The door of a kind of listener. ``error_wait_seconds`` is how long answers to errors take after
    ``soft_error_limit`` of them."""

    proxy_networks: tuple[str, ...] = ()
    xclient_networks: tuple[str, ...] = ()
    greet_wait_seconds: float = 0
    soft_error_limit: int = 10
    error_wait_seconds: float = 1.0
    rates: Rates | None = None
    _patient: dict[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(cls, settings: Settings, rates: Rates, *, greets_late: bool) -> "Door":
        """As configured; ``greets_late``: whether strangers are made to wait."""
        smtp = settings.smtp
        wait = smtp.greet_wait_seconds if greets_late else 0
        return cls(
            smtp.proxy_networks, smtp.xclient_networks, wait, smtp.soft_error_limit, smtp.error_wait_seconds, rates
        )

    async def client(self, connection: Connection) -> bytes:
        """Let a proxy say who its client is: ``connection.peer`` from now on. What came after its header.

        Raises ``TurnedAway``.
        """
        if not is_in(connection.peer, self.proxy_networks):
            return b""
        usual, connection.timeout_seconds = connection.timeout_seconds, PROXY_SECONDS
        try:
            header, data = await _header(connection)
        except (ValueError, TimeoutError) as error:
            raise TurnedAway(str(error)) from None
        finally:
            connection.timeout_seconds = usual
        if header.client:
            connection.peer = header.client
        return data[header.size_bytes :]

    def session(self, client: str) -> AbstractContextManager[None]:
        """While the session lasts. Raises ``TryLater``."""
        return self.rates.session(client) if self.rates is not None else nullcontext()

    def may_say_who(self, peer: str) -> bool:
        """Whether XCLIENT is for this one."""
        return is_in(peer, self.xclient_networks)

    async def wait(self, connection: Connection, early: bytes) -> Reply | None:
        """Let a stranger wait for its greeting; the reply for one that didn't. ``early``: what it has said."""
        if not self.greet_wait_seconds:
            return None
        now, client = connection.loop.time(), connection.peer
        if self._patient.get(client, 0.0) > now and not early:
            return None
        said = early or await self._said(connection)
        if said:
            log.info("spoke-early", peer=client, said=said[:100].decode("ascii", "replace"))
            return TOO_EARLY
        if len(self._patient) >= MAX_REMEMBERED:
            self._patient.clear()
        self._patient[client] = now + REMEMBERED_SECONDS
        return None

    async def _said(self, connection: Connection) -> bytes | None:
        usual, connection.timeout_seconds = connection.timeout_seconds, self.greet_wait_seconds
        try:
            data = await connection.read()
        except TimeoutError:
            return None
        finally:
            connection.timeout_seconds = usual
        if data == b"":
            raise ConnectionResetError("the client did not wait for its greeting")
        return data


async def _header(connection: Connection) -> tuple[ProxyHeader, bytes]:
    data = b""
    while True:
        more = await connection.read()
        if not more:
            raise ValueError("no PROXY header")
        data += more
        header = read_header(data)
        if header is not None:
            return header, data
