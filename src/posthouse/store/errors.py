"""What the store refuses. Trouble of its own (disk, locks, database) is ``TryLater``.

The IMAP driver turns the classes into response codes (RFC 5530: NONEXISTENT, ALREADYEXISTS, OVERQUOTA, CANNOT,
HASCHILDREN;
RFC 3501 §7.1: TRYCREATE).
"""

from posthouse.base.errors import Refused, Reply


class NoSuchMailbox(Refused):
    """There is no such mailbox, or it holds no messages, only children."""

    def __init__(self, name: str) -> None:
        super().__init__(Reply(550, "5.1.1", "No such mailbox"), f"no mailbox {name!r}")


class MailboxExists(Refused):
    """A mailbox of this name exists already."""

    def __init__(self, name: str) -> None:
        super().__init__(Reply(550, "5.2.0", "Mailbox exists already"), f"mailbox {name!r} exists")


class BadMailboxName(Refused):
    """No mailbox may have this name, or this mailbox may not be treated so."""

    def __init__(self, name: str, why: str = "Not a possible mailbox name") -> None:
        super().__init__(Reply(553, "5.1.3", why), f"mailbox name {name[:80]!r}: {why}")


class HasChildren(BadMailboxName):
    """There are only mailboxes below this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "This mailbox has only children")


class NoPermission(Refused):
    """The mailbox is another's, who hasn't given the right that this needs (RFC 4314 §4)."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(Reply(550, "5.7.1", "You have not been given the right to do this"), f"{name!r}: {why}")


class OverQuota(Refused):
    """The account has no room for this."""

    def __init__(self, reason: str) -> None:
        super().__init__(Reply(552, "5.2.2", "Mailbox is full"), reason)


class TooLongMetadata(Refused):
    """An annotation's value is longer than they may be (RFC 5464 §4.3)."""

    def __init__(self, name: str) -> None:
        super().__init__(Reply(552, "5.3.4", "This value is too long"), f"metadata {name!r}: too long")


class TooMuchMetadata(Refused):
    """A mailbox has as many annotations as it may have (RFC 5464 §4.3)."""

    def __init__(self, path: str) -> None:
        super().__init__(Reply(552, "5.3.4", "Too many annotations"), f"{path}: too many annotations")


class ReadOnly(Refused):
    """The view was opened without the right to change anything."""

    def __init__(self, name: str) -> None:
        super().__init__(Reply(550, "5.7.1", "Mailbox is open read-only"), f"{name!r} is open read-only")


class TooSoon(Refused):
    """The account's last POP3 login was a moment ago (RFC 2449 §8.1.1)."""

    def __init__(self, maildir: str, delay_seconds: int) -> None:
        text = f"[LOGIN-DELAY] Log in again {delay_seconds} seconds after the last time"
        super().__init__(
            Reply(450, "4.2.1", text), f"maildrop {maildir!r} was opened less than {delay_seconds} s ago"
        )


class InUse(Refused):
    """Another POP3 session has the maildrop (RFC 1939 §4; RFC 2449 §8.1.1)."""

    def __init__(self, maildir: str) -> None:
        text = "[IN-USE] Another session has this maildrop open"
        super().__init__(Reply(450, "4.2.1", text), f"maildrop {maildir!r} is locked")
