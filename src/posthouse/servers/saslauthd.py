"""saslauthd's protocol: another program asks whether a password is right.

A service may be followed by ``@`` and the client's IP address, which our own helper ``posthouse-auth`` adds so that
those who guess passwords over ssh are counted by where they come from; saslauthd has no place for it.
"""

from dataclasses import dataclass, replace

from posthouse.base.errors import PosthouseError
from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.saslauthd.server import Question, SaslauthdEngine
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id
from posthouse.servers import programs
from posthouse.services.guard import ShutOut
from posthouse.services.login import Login

QUESTION_SECONDS = 30.0
"""How long a program may take to ask: it connects for one question."""
_TEMPORARY = "temporary failure: "


@dataclass(frozen=True, slots=True)
class SaslauthdService:
    """What all connections of a process share."""

    login: Login

    async def serve(self, connection: Connection) -> None:
        """Answer one question."""
        connection.timeout_seconds = QUESTION_SECONDS
        engine = SaslauthdEngine()
        while not engine.closed:
            event = engine.next_event()
            if isinstance(event, Question):
                await self._answer(engine, event, connection.peer)
            elif event is NEED_DATA and not engine.closed:
                data = await connection.read()
                if data is not None:
                    engine.receive(data)
                elif connection.draining:
                    return
        if engine.error:
            log.warning("auth-client-broken", protocol="saslauthd", peer=connection.peer, reason=engine.error)
        connection.write(engine.data_to_send())
        await connection.drain()

    async def _answer(self, engine: SaslauthdEngine, question: Question, asker: str) -> None:
        login = question.login
        if question.realm and "@" not in login:
            login = f"{login}@{question.realm}"
        peer = _peer(question.service, asker)
        try:
            account = await self.login.verify(login, question.password, peer)
        except PosthouseError as error:
            tell = log.info if isinstance(error, ShutOut) else log.warning
            tell("login-unavailable", protocol=question.service, peer=peer.address, reason=error.reason)
            engine.refuse(_TEMPORARY + error.reply.text)
        except Exception:  # noqa: BLE001 - a bug of ours is a failure of ours
            trace = new_trace_id()
            log.exception("auth-failed", trace=trace, protocol=question.service, peer=peer.address)
            engine.refuse(_TEMPORARY + f"internal error, reported as {trace}")
        else:
            if account is None:
                engine.refuse("authentication failed")
            else:
                engine.accept()


def _peer(service: str, asker: str) -> Peer:
    """Whose password it is. A program that has it in its hands answers for how it came there: as if by TLS."""
    name, _, address = service.partition("@")
    peer = programs.peer(name, address, is_tls=True)
    return peer if peer.address else replace(peer, address=asker)
