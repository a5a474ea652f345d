"""IDLE (RFC 2177): updates go out as they happen, until the client says DONE."""

from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import Idle
from posthouse.protocols.imap.events import IdleDone
from posthouse.protocols.imap.render import Completion, bad, ok

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def idle(session: "ImapSession", _: Idle) -> Completion:
    session.engine.accept_idle()
    view, event = session.view, None
    if session.notifications is not None:
        while event is None:
            # RFC 5465 §4: what was asked for, and nothing else.
            await session.tell_notifications(expunge=True)
            await session.rest()
            event = await session.event_or_wake()
    elif view is None:
        await session.rest()
        event = await session.next_event()
    else:
        view.on_change(session.connection.wake)
        try:
            while event is None:
                # What changed since the last command is news as well.
                await session.send_updates(expunge=True)
                await session.rest()
                event = await session.event_or_wake()
        finally:
            view.on_change(None)
    assert isinstance(event, IdleDone), "nothing else can follow IDLE"
    return ok("IDLE completed") if event.clean else bad("Expected DONE")
