"""The settings of the mail store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mail:
    """Where and how messages are stored."""

    root: str = "mail"
    """The mail root, Postfix's ``virtual_mailbox_base``: every ``maildir`` in ``users`` is below it."""
    durability: str = "journal"
    """``journal``: group commit into the intake journal. ``fsync``: a sync for each file, for mail roots on NFS."""
    minimum_uid: int = 100
    """Accounts whose ``uid`` or ``gid`` in ``users`` is lower get no mail delivered."""
    undelete_days: int = 0
    """For how many days expunged messages are kept aside, for ``posthouse mailbox restore``. 0: not at all."""
    search_index: bool = True
    """Whether an account gets a search index once somebody searches its messages for text; it takes about half as
    much room as the messages. ``posthouse mailbox index`` makes one before, and says otherwise for an account."""
    trash_days: int = 0
    """``posthouse mailbox expire`` removes what has been in Trash for longer than so many days. 0: nothing."""
    junk_days: int = 0
    """The same for Junk."""
