"""Policy services: asked over pooled connections, with a time limit.

Invariant: a connection that an idle service has closed meanwhile costs nobody anything: a fresh one is tried.
"""

import asyncio
from collections.abc import Mapping

from posthouse.config.endpoints import Endpoint
from posthouse.config.restrictions import parse_policy_endpoint
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.policy.client import Action, Broken, PolicyClientEngine
from posthouse.services.restrictions.facts import UNKNOWN, Facts

MAX_IDLE = 20
MAX_REQUESTS = 1000


class PolicyTrouble(Exception):
    """No answer: the text says why."""


class _Link:
    """One connection to a service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.engine = PolicyClientEngine()
        self.requests = 0
        self._reader = reader
        self._writer = writer

    async def ask(self, attributes: Mapping[str, str]) -> str:
        self.requests += 1
        self.engine.ask(attributes)
        self._writer.write(self.engine.data_to_send())
        while True:
            match self.engine.next_event():
                case Action(text):
                    return text
                case Broken(reason):
                    raise ConnectionError(reason)
                case Pause():
                    self.engine.receive(await self._reader.read(65_536))

    @property
    def is_usable(self) -> bool:
        return (
            self.requests < MAX_REQUESTS
            and not self._reader.at_eof()
            and self.engine.next_event() is NEED_DATA
            and not self._writer.is_closing()
        )

    def close(self) -> None:
        self._writer.close()


class Policies:
    """The policy services of one process, by their addresses."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._idle: dict[str, list[_Link]] = {}

    def close(self) -> None:
        for links in self._idle.values():
            for link in links:
                link.close()
        self._idle.clear()

    async def ask(self, address: str, attributes: Mapping[str, str]) -> str:
        """The service's action. Raises ``PolicyTrouble``."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._ask(address, attributes)
        except TimeoutError:
            raise PolicyTrouble(f"{address}: no answer within {self._timeout_seconds:g} s") from None
        except OSError as error:
            raise PolicyTrouble(f"{address}: {error.strerror or error}") from None

    async def _ask(self, address: str, attributes: Mapping[str, str]) -> str:
        idle = self._idle.setdefault(address, [])
        while idle:
            link = idle.pop()
            if link.is_usable:
                try:
                    return await self._through(link, idle, attributes)
                except ConnectionError:
                    continue  # it had gone; the service has not seen this request, or has thrown it away
            link.close()
        return await self._through(await _connect(parse_policy_endpoint(address)), idle, attributes)

    async def _through(self, link: _Link, idle: list[_Link], attributes: Mapping[str, str]) -> str:
        try:
            action = await link.ask(attributes)
        except BaseException:
            link.close()
            raise
        if len(idle) < MAX_IDLE:
            idle.append(link)
        else:
            link.close()
        return action


async def _connect(endpoint: Endpoint) -> _Link:
    if endpoint.path:
        return _Link(*await asyncio.open_unix_connection(endpoint.path))
    return _Link(*await asyncio.open_connection(endpoint.host, endpoint.port))


async def attributes(facts: Facts) -> dict[str, str]:
    """What a service is told, by the names of SMTPD_POLICY_README."""
    names = await facts.names()
    version, _, cipher = facts.tls.partition(" ")
    return {
        "request": "smtpd_access_policy",
        "protocol_state": facts.stage,
        "protocol_name": "SMTP" if facts.protocol == "SMTP" else "ESMTP",
        "client_address": facts.client,
        "client_name": names.verified or UNKNOWN,
        "reverse_client_name": names.reverse or UNKNOWN,
        "helo_name": facts.helo,
        "sender": facts.sender,
        "recipient": facts.recipient,
        "recipient_count": str(facts.recipients if facts.stage == "DATA" else 0),
        "queue_id": "",
        "instance": facts.instance,
        "size": str(facts.size_bytes),
        "etrn_domain": "",
        "stress": "",
        "sasl_method": "",
        "sasl_username": facts.login,
        "sasl_sender": "",
        "ccert_subject": "",
        "ccert_issuer": "",
        "ccert_fingerprint": "",
        "encryption_protocol": version,
        "encryption_cipher": cipher,
        "encryption_keysize": "",
        "policy_context": "",
    }
