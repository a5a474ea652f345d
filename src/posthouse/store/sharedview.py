"""A selected mailbox of somebody else's: whatever is done is done as far as the rights go (RFC 4314 §4).

Invariants:
  1. Rights are looked up at every step, not once: what was taken away counts at the next command.
  2. Who may no longer read sees nothing more: the mailbox is as if it were gone.
"""

from collections.abc import Sequence

from posthouse.protocols.imap import rights
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.acl import Access
from posthouse.store.changes import Mode
from posthouse.store.errors import NoPermission, NoSuchMailbox
from posthouse.store.layout import Folder
from posthouse.store.model import Changes, Copied, Stored
from posthouse.store.quota import Limit
from posthouse.store.threads import Threads
from posthouse.store.view import View

SYSTEM = {"s": frozenset({"\\Seen"}), "t": frozenset({"\\Deleted"}),
          "w": frozenset({"\\Answered", "\\Flagged", "\\Draft"})}  # fmt: skip

FLAGS = frozenset("stw")


class SharedView(View):
    """Made by ``AccountStore.select`` for who isn't the owner."""

    def __init__(
        self,
        threads: Threads,
        files: AccountFiles,
        folder: Folder,
        name: str,
        limit: Limit | None,
        access: Access,
        *,
        read_only: bool,
    ) -> None:
        super().__init__(threads, files, folder, name, limit, read_only=read_only)
        self._access = access

    def may(self, right: str) -> bool:
        return right in self._access.rights()

    async def refresh(self, *, expunge: bool, own: bool = False) -> Changes:
        if not self.may("r"):
            raise NoSuchMailbox(self.name)
        return await super().refresh(expunge=expunge, own=own)

    async def store_unchanged(
        self, uids: Sequence[int], flags: frozenset[str], mode: Mode, unchanged_since: int | None
    ) -> Stored:
        """Of the flags only those that may be changed; none of them: NoPermission."""
        granted = self._access.rights()
        allowed = rights.allowed_flags(flags, granted)
        if not (allowed or (mode == "replace" and granted & FLAGS)):
            raise NoPermission(self.name, "may change none of these flags")
        if mode != "replace" or granted >= FLAGS:
            return await super().store_unchanged(uids, allowed, mode, unchanged_since)
        # Others' flags stay as they are.
        changeable = rights.allowed_flags(frozenset(self.keywords).union(*SYSTEM.values()), granted)
        removed = await super().store_unchanged(uids, changeable - allowed, "remove", unchanged_since)
        left = [uid for uid, _, _ in removed.messages]
        added = await super().store_unchanged(left, allowed, "add", None)
        return Stored(added.messages, removed.modified)

    async def expunge(self, uids: Sequence[int] | None = None) -> None:
        self._require("e")
        await super().expunge(uids)

    async def remove(self, uids: Sequence[int]) -> None:
        self._require("te")
        await super().remove(uids)

    async def move(self, uids: Sequence[int], target: str) -> Copied:
        self._require("te")
        return await super().move(uids, target)

    def _require(self, needed: str) -> None:
        if not self._access.rights() >= set(needed):
            raise NoPermission(self.name, f"needs the rights {needed}")
