"""The maildrop as one session sees it: a snapshot, with marks on what is to be deleted. RFC 1939 §4, §5."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Maildrop:
    """Messages by index from 0: sizes in octets, UIDs ascending, and the mailbox's UIDVALIDITY.

    ``uidls``: unique ids, by UID, that another program gave and clients may remember.
    """

    uidvalidity: int
    uids: Sequence[int]
    sizes: Sequence[int]
    uidls: Mapping[int, str] = field(default_factory=dict[int, str])
    deleted: set[int] = field(default_factory=set[int])
    total_bytes: int = field(init=False)
    """Octets of the messages that are not marked as deleted."""

    def __post_init__(self) -> None:
        self.restore()

    def __len__(self) -> int:
        return len(self.uids)

    def remaining(self) -> Iterator[int]:
        """The messages that are not marked as deleted."""
        return (index for index in range(len(self.uids)) if index not in self.deleted)

    @property
    def count(self) -> int:
        """How many messages are not marked as deleted."""
        return len(self.uids) - len(self.deleted)

    def delete(self, index: int) -> None:
        """Mark one that isn't marked yet."""
        self.deleted.add(index)
        self.total_bytes -= self.sizes[index]

    def restore(self) -> None:
        """Take all marks away."""
        self.deleted.clear()
        self.total_bytes = sum(self.sizes)

    def unique_id(self, index: int) -> str:
        """The UIDL: never another message's, and the same in every session (RFC 1939 §7).

        UID and UIDVALIDITY as Dovecot writes them unless told otherwise (``%08Xu%08Xv``): clients of a host
        that is moved to or from there do not see their mail a second time.
        """
        uid = self.uids[index]
        return self.uidls.get(uid) or f"{uid:08x}{self.uidvalidity:08x}"
