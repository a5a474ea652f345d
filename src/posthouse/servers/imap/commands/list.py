"""LIST and LSUB (RFC 3501 §6.3.8, §6.3.9; RFC 5258; CHILDREN RFC 3348; SPECIAL-USE RFC 6154; STATUS RFC 5819).

METADATA as RFC 9590 has it, MYRIGHTS as RFC 8440.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from posthouse.protocols.imap.commands import List
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.wildcards import SEPARATOR, Wildcards, above, separator_of
from posthouse.servers.imap.commands.acl import send_my_rights
from posthouse.servers.imap.commands.metadata import send_metadata
from posthouse.servers.imap.commands.status import status_items
from posthouse.store.errors import NoPermission, NoSuchMailbox
from posthouse.store.model import MailboxInfo

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

CHILD_SUBSCRIBED = ' ("CHILDINFO" ("SUBSCRIBED"))'
Listed = tuple[MailboxInfo, str, str]
"""A mailbox, its attributes, and what comes after its name."""


async def list_mailboxes(session: "ImapSession", command: List) -> Completion:
    name = "LSUB" if command.subscribed_only else "LIST"
    if command.patterns == ("",) and not command.is_extended:
        # RFC 3501 §6.3.8: the separator and the root of the reference, which is empty here.
        session.engine.untagged(f'{name} (\\Noselect) "{SEPARATOR}" ""'.encode())
        return ok(f"{name} completed")
    patterns = [Wildcards(command.reference + pattern) for pattern in command.patterns if pattern]
    mailboxes = await session.mailboxes.mailboxes()
    if command.subscribed_only:
        found = _lsub(mailboxes, patterns[0])
    elif b"SUBSCRIBED" in command.selection:
        found = _subscribed(mailboxes, patterns, command)
    else:
        found = _existing(mailboxes, patterns, command)
    for mailbox, attributes, extra in found:
        wire = session.mailbox_name(mailbox.name)
        separator = separator_of(mailbox.name).encode()
        line = b'%b (%b) "%b" %b%b' % (name.encode(), attributes.encode(), separator, wire, extra.encode())
        session.engine.untagged(line)
        if b"MYRIGHTS" in command.returns and mailbox.selectable:
            await _send_rights(session, mailbox.name)
        if command.status and mailbox.selectable:
            await _send_status(session, mailbox.name, command.status)
        if command.metadata and mailbox.selectable:
            await _send_metadata(session, mailbox.name, command.metadata)
    return ok(f"{name} completed")


async def _send_status(session: "ImapSession", mailbox: str, items: Sequence[bytes]) -> None:
    """RFC 5819 §2: where there is none to be had, there is none."""
    try:
        values = await status_items(session, mailbox, items)
    except (NoSuchMailbox, NoPermission):
        return
    session.engine.untagged(b"STATUS %b (%b)" % (session.mailbox_name(mailbox), values))
    await session.flush()


async def _send_rights(session: "ImapSession", mailbox: str) -> None:
    """RFC 8440 §3."""
    try:
        send_my_rights(session, mailbox, await session.mailboxes.my_rights(mailbox))
    except NoSuchMailbox:
        return


async def _send_metadata(session: "ImapSession", mailbox: str, entries: Sequence[str]) -> None:
    """RFC 9590 §3: behind the mailbox they belong to."""
    try:
        send_metadata(session, mailbox, entries, await session.mailboxes.metadata(mailbox))
    except (NoSuchMailbox, NoPermission):
        return
    await session.flush()


def _existing(mailboxes: Sequence[MailboxInfo], patterns: Sequence[Wildcards], command: List) -> Iterator[Listed]:
    """Mailboxes, and the levels above them."""
    for mailbox in mailboxes:
        if b"SPECIAL-USE" in command.selection and not mailbox.special_use:
            continue
        # What neither holds messages nor has children is only a subscription left behind.
        if (mailbox.selectable or mailbox.has_children) and _matches(patterns, mailbox.name):
            yield mailbox, _attributes(mailbox, command, show_subscribed=b"SUBSCRIBED" in command.returns), ""


def _subscribed(mailboxes: Sequence[MailboxInfo], patterns: Sequence[Wildcards], command: List) -> Iterator[Listed]:
    """What is subscribed, whether or not it exists.

    With RECURSIVEMATCH also what has subscribed children that the patterns don't find (RFC 5258 §3.5).
    """
    wanted = {
        mailbox.name
        for mailbox in mailboxes
        if mailbox.subscribed and (mailbox.special_use or b"SPECIAL-USE" not in command.selection)
    }
    parents: set[str] = set()
    if b"RECURSIVEMATCH" in command.selection:
        for name in wanted:
            if not _matches(patterns, name):
                parents.update(above(name))
    for mailbox in mailboxes:
        if mailbox.name in wanted | parents and _matches(patterns, mailbox.name):
            extra = CHILD_SUBSCRIBED if mailbox.name in parents else ""
            yield mailbox, _attributes(mailbox, command, show_subscribed=True), extra


def _lsub(mailboxes: Sequence[MailboxInfo], pattern: Wildcards) -> Iterator[Listed]:
    """Names that are subscribed, whether or not they still exist.

    With ``%`` at the end also levels above them, as \\Noselect where they aren't subscribed themselves
    (RFC 3501 §6.3.9).
    """
    names = {mailbox.name for mailbox in mailboxes if mailbox.subscribed}
    levels: set[str] = set()
    if pattern.ends_at_level:
        for name in names:
            levels.update(above(name))
    for name in sorted(names | levels):
        if pattern.match(name):
            yield MailboxInfo(name), "" if name in names else "\\Noselect", ""


def _attributes(mailbox: MailboxInfo, command: List, *, show_subscribed: bool) -> str:
    missing = "\\NonExistent" if command.is_extended else "\\Noselect"
    words = [
        "" if mailbox.selectable else missing,
        "\\Subscribed" if show_subscribed and mailbox.subscribed else "",
        "\\HasChildren" if mailbox.has_children else "\\HasNoChildren",
        mailbox.special_use,
    ]
    return " ".join(filter(None, words))


def _matches(patterns: Sequence[Wildcards], name: str) -> bool:
    return any(pattern.match(name) for pattern in patterns)
