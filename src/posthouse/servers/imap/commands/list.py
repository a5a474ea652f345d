"""LIST and LSUB (RFC 3501 §6.3.8, §6.3.9; CHILDREN RFC 3348; SPECIAL-USE RFC 6154)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from posthouse.protocols.imap import render
from posthouse.protocols.imap.commands import List
from posthouse.protocols.imap.render import Completion, ok
from posthouse.protocols.imap.wildcards import SEPARATOR, Wildcards
from posthouse.store.model import MailboxInfo

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def list_mailboxes(session: "ImapSession", command: List) -> Completion:
    name = "LSUB" if command.subscribed_only else "LIST"
    if not command.pattern:
        # RFC 3501 §6.3.8: the separator and the root of the reference, which is empty here.
        session.engine.untagged(f'{name} (\\Noselect) "{SEPARATOR}" ""'.encode())
        return ok(f"{name} completed")
    wildcards = Wildcards(command.reference + command.pattern)
    mailboxes = await session.mailboxes.mailboxes()
    found = _subscribed(mailboxes, wildcards) if command.subscribed_only else _existing(mailboxes, wildcards)
    for mailbox, attributes in found:
        wire = render.mailbox(mailbox)
        session.engine.untagged(b'%b (%b) "%b" %b' % (name.encode(), attributes.encode(), SEPARATOR.encode(), wire))
    return ok(f"{name} completed")


def _existing(mailboxes: Sequence[MailboxInfo], wildcards: Wildcards) -> Iterator[tuple[str, str]]:
    """Names and attributes of mailboxes, and of the levels above them."""
    for mailbox in mailboxes:
        # What neither holds messages nor has children is only a subscription left behind.
        if (mailbox.selectable or mailbox.has_children) and wildcards.match(mailbox.name):
            words = [
                "" if mailbox.selectable else "\\Noselect",
                "\\HasChildren" if mailbox.has_children else "\\HasNoChildren",
                mailbox.special_use,
            ]
            yield mailbox.name, " ".join(filter(None, words))


def _subscribed(mailboxes: Sequence[MailboxInfo], wildcards: Wildcards) -> Iterator[tuple[str, str]]:
    """Names that are subscribed, whether or not they still exist.

    With ``%`` at the end also levels above them, as \\Noselect where they aren't subscribed themselves
    (RFC 3501 §6.3.9).
    """
    names = {mailbox.name for mailbox in mailboxes if mailbox.subscribed}
    levels: set[str] = set()
    if wildcards.ends_at_level:
        for name in names:
            parts = name.split(SEPARATOR)
            levels.update(SEPARATOR.join(parts[:depth]) for depth in range(1, len(parts)))
    for name in sorted(names | levels):
        if wildcards.match(name):
            yield name, "" if name in names else "\\Noselect"
