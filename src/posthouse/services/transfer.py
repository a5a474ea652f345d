"""Copying messages from one account into another, or where some of their flags may not be set.

No transaction spans two accounts: copies are appended, durably and with their UIDs, before a source goes. If one of
several batches fails, those before it are taken back.
"""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Final

from posthouse.base.errors import TryLater
from posthouse.journal.content import Content
from posthouse.protocols.imap.rights import allowed_flags
from posthouse.store.account import AccountStore
from posthouse.store.fetch import Message
from posthouse.store.model import Copied, NewMessage, Want
from posthouse.store.view import View

BATCH_MESSAGES: Final = 50
SLICE_BYTES: Final = 1 << 20
MEMORY_BYTES: Final = 16 * 1024


async def transfer(
    view: View,
    uids: Sequence[int],
    store: AccountStore,
    name: str,
    granted: frozenset[str],
    temporary_dir: str,
    *,
    move: bool,
) -> Copied:
    """What is gone is left out; flags that ``granted`` rights don't cover are dropped. All or nothing."""
    sources: list[int] = []
    targets: list[int] = []
    uidvalidity = 0
    try:
        for at in range(0, len(uids), BATCH_MESSAGES):
            with ExitStack() as stack:
                found = await _read(view, uids[at : at + BATCH_MESSAGES], temporary_dir, granted, stack)
                if found:
                    appended = await store.append(name, [message for _, message in found])
                    uidvalidity = appended.uidvalidity
                    targets += appended.uids
                    sources += [uid for uid, _ in found]
    except BaseException:
        if targets:
            await store.discard(name, targets)
        raise
    if move and sources:
        await view.remove(sources)
    return Copied(uidvalidity, tuple(sources), tuple(targets))


async def _read(
    view: View, uids: Sequence[int], temporary_dir: str, granted: frozenset[str], stack: ExitStack
) -> list[tuple[int, NewMessage]]:
    def read(message: Message) -> tuple[int, NewMessage]:
        content = stack.enter_context(closing(Content(temporary_dir, MEMORY_BYTES)))
        try:
            for start in range(0, message.size, SLICE_BYTES):
                content.write(message.body(start, min(start + SLICE_BYTES, message.size)))
            content.finish()
        except OSError as error:
            raise TryLater(f"no room for a copy: {error}") from error
        return message.uid, NewMessage(content, allowed_flags(message.flags, granted), message.internal_date)

    wanted = Want.BODY | Want.SIZE | Want.DATE | Want.FLAGS
    return [each async for batch in view.fetch(uids, wanted, read) for each in batch]
