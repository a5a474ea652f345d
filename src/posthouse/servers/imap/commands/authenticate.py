"""AUTHENTICATE (RFC 3501 §6.2.2; initial responses RFC 4959)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import AuthCancelled, Authenticate, AuthResponse
from posthouse.protocols.imap.render import Completion, bad, no
from posthouse.protocols.sasl.server import MECHANISMS
from posthouse.protocols.sasl.steps import Challenge, Success
from posthouse.servers.imap.commands.login import IN_CLEAR, logged_in, login_failed

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def authenticate(session: "ImapSession", command: Authenticate) -> Completion:
    login, peer = session.service.login, session.connection.peer
    if command.mechanism not in session.mechanisms():
        return IN_CLEAR if command.mechanism in MECHANISMS else no("Unknown mechanism", "CANNOT")
    mechanism = login.start(command.mechanism)
    if mechanism is None:
        return no("Unknown mechanism", "CANNOT")
    step = await login.authenticate(mechanism, mechanism.step(command.initial), peer=peer)
    while isinstance(step, Challenge):
        session.engine.auth_challenge(step.data)
        event = await session.next_event()
        if isinstance(event, AuthCancelled):
            return bad("Authentication cancelled")
        assert isinstance(event, AuthResponse), "only a response can follow a challenge"
        step = await login.authenticate(mechanism, mechanism.step(event.data), peer=peer)
    if isinstance(step, Success):
        return await logged_in(session, step.login)
    return login_failed(session)
