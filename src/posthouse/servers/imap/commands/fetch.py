"""FETCH (RFC 3501 §6.4.5; RFC 7162; RFC 9394): a plan, ready-made responses in batches, large bodies in slices."""

from typing import TYPE_CHECKING, Final

from posthouse.message.query import SAVED
from posthouse.protocols.imap.commands import Fetch
from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.render import Completion, bad, ok, range_set
from posthouse.servers.imap.fetchplan import MODSEQ, SEEN, FetchPlan, Response
from posthouse.servers.imap.results import part
from posthouse.servers.imap.section import Stretch
from posthouse.servers.imap.selection import Selection, select_messages
from posthouse.store.fetch import Message
from posthouse.store.model import Want
from posthouse.store.view import View

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SLICE_BYTES: Final = 1 << 20


async def fetch(session: "ImapSession", command: Fetch) -> Completion:
    view = session.selected
    selection = select_messages(view, command.ranges, uid=command.uid)
    items = command.items
    if command.changed_since is not None:
        selection = await _changed(session, command, selection)
        items = (*items, MODSEQ)
    if command.partial is not None:
        selection = selection.only(view, part(selection.uids, command.partial))
    if MODSEQ in items:
        session.enable_condstore()
        items = tuple(dict.fromkeys(items))
    plan = FetchPlan(
        items,
        dict(zip(selection.uids, selection.uids, strict=True)) if session.uid_only else selection.numbers(),
        uid=command.uid,
        may_mark=not view.read_only and view.may("s"),
        modseq=view.known_modseq,
        uid_only=session.uid_only,
    )
    batches = view.fetch(selection.uids, plan.want, plan.render, names=plan.names, render_columns=plan.render_columns)
    async for responses in batches:
        # What the responses say of \Seen is true before they go out.
        newly_seen = plan.take_newly_seen()
        if newly_seen:
            await view.store_flags(newly_seen, SEEN, "add")
        await _send(session, view, responses)
    return ok("FETCH completed")


async def _changed(session: "ImapSession", command: Fetch, selection: Selection) -> Selection:
    """Only what changed since; what vanished since is told at once (RFC 7162 §3.1.4.1, §3.2.6)."""
    if command.vanished and not (command.uid and session.qresync):
        raise BadCommandError(bad("VANISHED is for UID FETCH once QRESYNC is enabled"))
    session.enable_condstore()
    view = session.selected
    ranges = command.ranges if command.uid else None
    if ranges == SAVED:
        ranges = tuple((uid, uid) for uid in view.saved)
    missed = await view.missed(command.changed_since or 0, ranges)
    if command.vanished and missed.vanished:
        session.engine.untagged(b"VANISHED (EARLIER) " + range_set(missed.vanished))
    return selection.only(view, [uid for uid, _ in missed.changed])


async def _send(session: "ImapSession", view: View, responses: list[Response]) -> None:
    send = session.engine.send
    lines = [response for response in responses if isinstance(response, bytes)]
    if len(lines) == len(responses):
        send(b"".join(lines))
        await session.flush()
        return
    for response in responses:
        for piece in (response,) if isinstance(response, bytes) else response:
            if isinstance(piece, Stretch):
                await _stream(session, view, piece)
            else:
                send(piece)
    await session.flush()


async def _stream(session: "ImapSession", view: View, stretch: Stretch) -> None:
    """A literal, one slice in memory at a time."""
    session.engine.send(b"{%d}\r\n" % (stretch.end - stretch.start))
    for start in range(stretch.start, stretch.end, SLICE_BYTES):
        end = min(start + SLICE_BYTES, stretch.end)
        session.engine.send(await _slice(view, stretch.uid, start, end))
        await session.flush()


async def _slice(view: View, uid: int, start: int, end: int) -> bytes:
    def cut(message: Message) -> bytes:
        return message.body(start, end)

    async for slices in view.fetch([uid], Want.BODY, cut):
        for data in slices:
            if len(data) == end - start:
                return data.replace(b"\0", b"\x80")
    # The literal has been announced and can't be completed; any other octets would be read as the message.
    raise ConnectionAbortedError("a message went away while it was being sent")
