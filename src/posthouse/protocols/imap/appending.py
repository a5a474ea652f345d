"""APPEND and REPLACE, read piece by piece between their literals, which are never held in memory.

RFC 3501 §6.3.11; several messages RFC 3502, parts put together RFC 4469, ``UTF8 (…)`` RFC 6855, REPLACE RFC 8508.
"""

from collections import deque
from collections.abc import Generator
from datetime import datetime
from typing import Final

from posthouse.message.dates import parse_internal_date
from posthouse.message.query import STAR
from posthouse.protocols.imap.commands import AppendStart, Replaced
from posthouse.protocols.imap.cursor import UTF8, BadCommandError, Cursor, syntax_error
from posthouse.protocols.imap.events import CatenateUrl, CommandEnd, Event, MessageStart
from posthouse.protocols.imap.parser import parse_flag_list
from posthouse.protocols.imap.render import no

NAMES: Final = frozenset({b"APPEND", b"REPLACE", b"UID REPLACE"})
MAX_MESSAGES: Final = 250
"""How many messages one APPEND may have: each has a file open."""


class AppendReader:
    """One command; ``events`` are what was read: AppendStart first, CommandEnd last."""

    __slots__ = ("_cursor", "_name", "_size", "_steps", "_tag", "events")

    def __init__(self, tag: bytes, name: bytes) -> None:
        self.events: deque[Event] = deque()
        self._tag = tag
        self._name = name
        self._cursor = Cursor(b"")
        self._size: int | None = None
        self._steps = self._read()

    def read(self, cursor: Cursor, size: int | None) -> None:
        """The arguments up to the first literal, then what follows each literal; ``size`` is that of the next.

        None at the command's end. Raises BadCommandError.
        """
        self._cursor, self._size = cursor, size
        next(self._steps, None)

    def _read(self) -> Generator[None]:
        """Stops at every literal, and goes on with the cursor that stands behind it."""
        cursor = self._cursor
        cursor.space()
        replaced = None
        if self._name != b"APPEND":
            number = STAR if cursor.skip(b"*") else cursor.number()
            replaced = Replaced(number, self._name == b"UID REPLACE")
            cursor.space()
        mailbox = cursor.mailbox()
        flags, date = self._flags_and_date()
        self.events.append(AppendStart(self._tag, mailbox, flags, date, self._size, replaced))
        yield from self._data()
        count = 1
        while not self._cursor.at_end():
            if replaced is not None:
                raise syntax_error("REPLACE has one message")
            count += 1
            if count > MAX_MESSAGES:
                raise BadCommandError(no(f"One APPEND may have {MAX_MESSAGES} messages", "LIMIT"))
            self.events.append(MessageStart(*self._flags_and_date()))
            yield from self._data()
        if self._size is not None:
            raise syntax_error("Unexpected literal")
        self.events.append(CommandEnd())

    def _flags_and_date(self) -> tuple[frozenset[str], datetime | None]:
        cursor = self._cursor
        flags: frozenset[str] = frozenset()
        date = None
        cursor.space()
        if cursor.looking_at(b"("):
            flags = frozenset(parse_flag_list(cursor))
            cursor.space()
        if cursor.looking_at(b'"'):
            date = parse_internal_date(cursor.string().decode("latin-1"))
            if date is None:
                raise syntax_error("Invalid date-time")
            cursor.space()
        return flags, date

    def _data(self) -> Generator[None]:
        cursor = self._cursor
        if cursor.at_end() or cursor.looking_at(b"~"):
            yield from self._literal()
            return
        name = cursor.keyword()
        cursor.expect(b" (")
        if name == b"UTF8" and UTF8 in cursor.enabled:
            yield from self._literal()
            self._cursor.expect(b")")
        elif name == b"CATENATE":
            yield from self._parts()
        else:
            raise syntax_error("Unknown kind of message")

    def _parts(self) -> Generator[None]:
        """RFC 4469 §5: cat-part."""
        while True:
            name = self._cursor.keyword()
            self._cursor.space()
            if name == b"TEXT":
                yield from self._literal()
            elif name == b"URL":
                self.events.append(CatenateUrl(self._cursor.text()))
            else:
                raise syntax_error("Expected TEXT or URL")
            if self._cursor.skip(b")"):
                return
            self._cursor.space()

    def _literal(self) -> Generator[None]:
        self._cursor.skip(b"~")  # RFC 3516 §7: literal8
        if self._size is None:
            raise syntax_error("APPEND needs a literal")
        self._cursor.finish()
        yield
