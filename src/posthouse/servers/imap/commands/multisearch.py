"""ESEARCH (RFC 7377): one search in many mailboxes, each looked at by itself, as the client's own stays selected."""

from typing import TYPE_CHECKING, Final

from posthouse.message.query import asks_modseq
from posthouse.protocols.imap.commands import ReturnOptions
from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.multisearch import SELECTED, MultiSearch, Source
from posthouse.protocols.imap.render import Completion, bad, ok
from posthouse.protocols.imap.searchkeys import BAD_CHARSET
from posthouse.protocols.imap.wildcards import is_shared, separator_of
from posthouse.servers.imap import results
from posthouse.servers.imap.contexts import refuse
from posthouse.store.errors import NoPermission, NoSuchMailbox
from posthouse.store.model import MailboxInfo
from posthouse.store.view import View

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

ALL: Final = ReturnOptions(frozenset({b"ALL"}))
NOTHING_SELECTED: Final = bad("No mailbox is selected")


async def multi_search(session: "ImapSession", command: MultiSearch) -> Completion:
    if not command.is_charset_known:
        return BAD_CHARSET
    if asks_modseq(command.query):
        session.enable_condstore()
    names = await _names(session, command.sources)
    if command.returns is not None and b"UPDATE" in command.returns.names:
        refuse(session, command.tag)
    for name in names:
        if session.view is not None and session.view.name == name:
            await _search(session, session.view, command)
            continue
        try:
            view = await session.mailboxes.select(name, read_only=True)
        except (NoSuchMailbox, NoPermission):
            continue
        try:
            await _search(session, view, command)
        finally:
            view.close()
    return ok("ESEARCH completed")


async def _search(session: "ImapSession", view: View, command: MultiSearch) -> None:
    returns = command.returns or ALL
    uids = await view.search(command.query)
    if b"SAVE" in returns.names:
        view.saved = results.kept(returns, uids)
    if not uids:
        return  # RFC 7377 §2.1: only mailboxes where something matches are told of
    mailbox = (session.mailbox_name(view.name), view.uidvalidity)
    scores = await results.scores(view, command, uids)
    response = results.esearch(command.tag, returns, uids, uid=True, scores=scores, mailbox=mailbox)
    if response and asks_modseq(command.query):
        response += b" MODSEQ %d" % await view.highest_modseq(uids)
    if response:
        session.engine.untagged(response)
        await session.flush()


async def _names(session: "ImapSession", sources: tuple[Source, ...]) -> list[str]:
    """The mailboxes that are meant, each once; what is not there is nothing. Raises BadCommandError."""
    found: dict[str, None] = {}
    boxes: list[MailboxInfo] | None = None
    for source in sources:
        if source.kind == SELECTED:
            if session.view is None:
                raise BadCommandError(NOTHING_SELECTED)
            found[session.view.name] = None
            continue
        if boxes is None:
            boxes = [box for box in await session.mailboxes.mailboxes() if box.selectable]
        found.update(dict.fromkeys(box.name for box in boxes if is_meant(source, box)))
    return list(found)


def is_meant(source: Source, box: MailboxInfo) -> bool:
    """RFC 5465 §6; mail is delivered to INBOX alone. The one level of SUBTREE-ONE is RFC 7377's §2.2."""
    match source.kind:
        case b"INBOXES":
            return box.name == "INBOX"
        case b"SUBSCRIBED":
            return box.subscribed
        case b"MAILBOXES":
            return box.name in source.mailboxes
        case b"SUBTREE" | b"SUBTREE-ONE":
            return any(
                box.name == top or _is_below(box.name, top, one=source.kind == b"SUBTREE-ONE")
                for top in source.mailboxes
            )
        case _:
            return not is_shared(box.name)


def _is_below(name: str, top: str, *, one: bool) -> bool:
    separator = separator_of(name)
    prefix = top + separator if top else ""
    return name.startswith(prefix) and not (one and separator in name[len(prefix) :])
