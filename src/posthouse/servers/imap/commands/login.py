"""LOGIN (RFC 3501 §6.2.3), and what every way of logging in ends with."""

from typing import TYPE_CHECKING, Final

from posthouse.protocols.imap.commands import Login
from posthouse.protocols.imap.render import Completion, no, ok
from posthouse.protocols.imap.states import State
from posthouse.servers.imap.capabilities import PASSWORD_MECHANISM
from posthouse.services.mailboxes import Mailboxes

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

MAX_FAILED_LOGINS: Final = 10
FAILED: Final = no("Wrong login or password", "AUTHENTICATIONFAILED")
IN_CLEAR: Final = no("Passwords are taken over TLS only", "PRIVACYREQUIRED")


async def login(session: "ImapSession", command: Login) -> Completion:
    if PASSWORD_MECHANISM not in session.mechanisms():
        return not_offered(session)
    email = await session.service.login.verify(command.user, command.password, session.peer)
    if email is None:
        return login_failed(session)
    return await logged_in(session, email)


def not_offered(session: "ImapSession") -> Completion:
    """The client can't log in this way: not before TLS, or not at all."""
    return no("Not offered here", "CANNOT") if session.mechanisms() else IN_CLEAR


async def logged_in(session: "ImapSession", email: str) -> Completion:
    """The client is who it says: open its mailboxes. The new capabilities come along (RFC 3501 §7.1)."""
    service = session.service
    account = await service.directory.account(email)
    if account is None or not account.enabled:
        return login_failed(session)
    session.store = Mailboxes(service.store, service.directory, account, service.settings.path("tmp"))
    session.login = email
    session.engine.state = State.AUTHENTICATED
    return ok("Logged in", f"CAPABILITY {session.capability()}")


def login_failed(session: "ImapSession") -> Completion:
    """The client is not who it says; after too many of these the connection ends."""
    session.failed_logins += 1
    if session.failed_logins >= MAX_FAILED_LOGINS:
        session.engine.bye("Too many failed logins")
    return FAILED
