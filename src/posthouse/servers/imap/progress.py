"""INPROGRESS (RFC 9585): a client hears now and then that its command has not been forgotten.

Invariant: only commands that write nothing before their end are told of, so that no other response is cut in two.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from posthouse.protocols.imap import commands

SECONDS: Final = 10.0
LONG: Final = (
    commands.Close | commands.Copy | commands.Delete | commands.Expunge | commands.Move | commands.Rename
    | commands.Search | commands.Store
)  # fmt: skip


class Progress:
    """Tells of the command with this tag until it is cancelled."""

    __slots__ = ("_line", "_timer", "_write")

    def __init__(self, tag: bytes, write: Callable[[bytes], None]) -> None:
        # A bracket within a response code is one too many for some clients.
        shown = b"NIL" if b"]" in tag else b'"%b"' % tag
        self._line = b"* OK [INPROGRESS (%b NIL NIL)] This takes a while\r\n" % shown
        self._write = write
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._tell)

    def cancel(self) -> None:
        self._timer.cancel()

    def _tell(self) -> None:
        self._write(self._line)
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._tell)
