"""NOTIFY's arguments (RFC 5465 §8)."""

from dataclasses import dataclass
from typing import Final

from posthouse.protocols.imap.commands import Command, FetchItem
from posthouse.protocols.imap.cursor import BadCommandError, Cursor, syntax_error
from posthouse.protocols.imap.fetchitems import parse_fetch_items
from posthouse.protocols.imap.render import no

MESSAGE_EVENTS: Final = frozenset({"MessageNew", "MessageExpunge", "FlagChange"})
EVENTS: Final = (*sorted(MESSAGE_EVENTS), "MailboxName", "SubscriptionChange", "MailboxMetadataChange",
                 "ServerMetadataChange")  # fmt: skip
SELECTED: Final = frozenset({"selected", "selected-delayed"})
OTHERS: Final = frozenset({"inboxes", "personal", "subscribed"})
NAMED: Final = frozenset({"subtree", "mailboxes"})
MAX_GROUPS: Final = 100
MAX_NAMES: Final = 1000
_events = {event.upper().encode(): event for event in EVENTS}


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Which mailboxes (RFC 5465 §6), and which events there; ``items`` are what a new message is shown with."""

    which: str
    mailboxes: tuple[str, ...]
    events: frozenset[str]
    items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify(Command):
    """NOTIFY (RFC 5465 §3.1); NONE has no groups. ``status``: where things stand is told at once."""

    groups: tuple[EventGroup, ...]
    status: bool = False


def parse_notify(tag: bytes, cursor: Cursor) -> Notify:
    cursor.space()
    word = cursor.keyword()
    if word == b"NONE":
        return Notify(tag, ())
    if word != b"SET":
        raise syntax_error("Expected SET or NONE")
    cursor.space()
    status = False
    if not cursor.looking_at(b"("):
        if cursor.keyword() != b"STATUS":
            raise syntax_error("Expected STATUS or a list of events")
        status = True
        cursor.space()
    groups = [_group(cursor)]
    while cursor.skip(b" "):
        groups.append(_group(cursor))
    if len(groups) > MAX_GROUPS or sum(len(group.mailboxes) for group in groups) > MAX_NAMES:
        raise BadCommandError(no("Too many mailboxes to watch", "NOTIFICATIONOVERFLOW"))
    if sum(group.which in SELECTED for group in groups) > 1:
        raise syntax_error("SELECTED or SELECTED-DELAYED once")  # RFC 5465 §6.1
    return Notify(tag, tuple(groups), status)


def _group(cursor: Cursor) -> EventGroup:
    cursor.expect(b"(")
    which = cursor.keyword().decode("ascii").lower()
    mailboxes: list[str] = []
    if which in NAMED:
        cursor.space()
        if cursor.skip(b"("):
            mailboxes.append(cursor.mailbox())
            while cursor.skip(b" "):
                mailboxes.append(cursor.mailbox())
            cursor.expect(b")")
        else:
            mailboxes.append(cursor.mailbox())
    elif which not in SELECTED | OTHERS:
        raise syntax_error("Unknown kind of mailboxes")
    cursor.space()
    events, items = _events_of(cursor)
    cursor.expect(b")")
    _check(which, events, has_items=bool(items))
    return EventGroup(which, tuple(mailboxes), frozenset(events), items)


def _events_of(cursor: Cursor) -> tuple[set[str], tuple[FetchItem, ...]]:
    """In parentheses by the grammar, and without them in the example (RFC 5465 §3.1, §8)."""
    in_list = cursor.skip(b"(")
    events: set[str] = set()
    items: tuple[FetchItem, ...] = ()
    while True:
        name = cursor.keyword()
        if name == b"NONE" and not events and not in_list:
            return events, items
        event = _events.get(name)
        if event is None:
            # RFC 5465 §3.1: not BAD, and with all that there are.
            raise BadCommandError(no("There is no such event here", f"BADEVENT ({' '.join(EVENTS)})"))
        events.add(event)
        if event == "MessageNew" and cursor.skip(b" ("):
            cursor.position -= 1
            items = parse_fetch_items(cursor)
        if not cursor.skip(b" "):
            break
    if in_list:
        cursor.expect(b")")
    return events, items


def _check(which: str, events: set[str], *, has_items: bool) -> None:
    """RFC 5465 §5, §6.1, §8."""
    messages = events & MESSAGE_EVENTS
    if messages and not messages >= {"MessageNew", "MessageExpunge"}:
        raise syntax_error("MessageNew and MessageExpunge go together, and with FlagChange")
    if which in SELECTED and events - MESSAGE_EVENTS:
        raise syntax_error("Of the selected mailbox only its messages are told")
    if has_items and which not in SELECTED:
        raise syntax_error("Messages are shown of the selected mailbox only")
