"""AUTHENTICATE (RFC 3501 §6.2.2; initial responses RFC 4959)."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Authenticate
from posthouse.protocols.imap.events import AuthCancelled, AuthResponse
from posthouse.protocols.imap.render import Completion, bad
from posthouse.protocols.sasl.steps import Challenge, Success
from posthouse.servers.imap.commands.login import logged_in, login_failed, not_offered

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def authenticate(session: "ImapSession", command: Authenticate) -> Completion:
    login, peer = session.service.login, session.peer
    if command.mechanism not in session.mechanisms():
        return not_offered(session)
    mechanism = login.start(command.mechanism, peer)
    if mechanism is None:
        return not_offered(session)
    step = await login.authenticate(mechanism, mechanism.step(command.initial), peer)
    while isinstance(step, Challenge):
        session.engine.auth_challenge(step.data)
        event = await session.next_event()
        if isinstance(event, AuthCancelled):
            return bad("Authentication cancelled")
        assert isinstance(event, AuthResponse), "only a response can follow a challenge"
        step = await login.authenticate(mechanism, mechanism.step(event.data), peer)
    if isinstance(step, Success):
        return await logged_in(session, step.login)
    return login_failed(session)
