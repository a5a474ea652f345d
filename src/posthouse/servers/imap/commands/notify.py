"""NOTIFY (RFC 5465): events are told at once, until the next NOTIFY."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.notify import Notify
from posthouse.protocols.imap.render import Completion, ok
from posthouse.servers.imap.notifications import Notifications

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def notify(session: "ImapSession", command: Notify) -> Completion:
    notifications = Notifications(session, command)
    try:
        await notifications.start(status=command.status)
    except BaseException:
        notifications.close()
        raise
    session.notify(notifications)
    return ok("NOTIFY completed")
