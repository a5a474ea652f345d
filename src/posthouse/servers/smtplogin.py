"""AUTH over SMTP: one step of a mechanism, from the client's response to the engine's answer."""

from posthouse.base.errors import PosthouseError, Reply
from posthouse.protocols.sasl.exchange import ServerMechanism
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.steps import Challenge, Failure, Success
from posthouse.protocols.smtp.server import SmtpServerEngine
from posthouse.runtime.log import log
from posthouse.servers.smtpcounts import SmtpCounts
from posthouse.services.guard import ShutOut
from posthouse.services.login import Login

AUTH_FAILED = Reply(535, "5.7.8", "Authentication failed: wrong login or password")
LOGIN_LATER = "4.7.0"
AUTH_UNAVAILABLE = Reply(454, LOGIN_LATER, "Temporary authentication failure, please try again later")


async def take_step(
    login: Login,
    mechanism: ServerMechanism,
    response: bytes | None,
    peer: Peer,
    engine: SmtpServerEngine,
    counts: SmtpCounts,
) -> str:
    """Answer the client; the account that it has logged in to, or empty."""
    try:
        step = await login.authenticate(mechanism, mechanism.step(response), peer)
    except PosthouseError as error:
        tell = log.info if isinstance(error, ShutOut) else log.warning
        tell("login-unavailable", peer=peer.address, reason=error.reason)
        says_when = error.reply.status == LOGIN_LATER and 400 <= error.reply.code < 500
        reply = error.reply if says_when else AUTH_UNAVAILABLE
        counts.turned_down("auth", reply, error)
        engine.auth_failure(reply)
        return ""
    match step:
        case Challenge(data):
            engine.auth_challenge(data)
        case Success(account):
            counts.accepted("auth")
            engine.auth_success()
            return account
        case Failure():
            counts.turned_down("auth", AUTH_FAILED)
            engine.auth_failure(AUTH_FAILED)
    return ""
