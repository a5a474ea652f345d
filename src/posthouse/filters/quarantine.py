"""The quarantine on disk, below ``<data_dir>/quarantine``: messages that are kept where no recipient sees them.

::

    messages/ID   a line of JSON (``Record``), then the message in CRLF as it would have been delivered; immutable
    state/ID      JSON (``State``): what was decided about it since; absent while that is nothing
    index.db      what ``listing`` reads; derived, may be deleted (``quarantineindex``)
    tmp/          files on their way to their place

Invariants:
  1. A message is on disk, synced, before its client hears 250: it comes by the commit that also delivers it to those
     who get it.
  2. State is replaced whole and is durable when ``save`` returns.
  3. No name from outside becomes a path: an ID is a trace id.
"""

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from posthouse.journal.operations import Put
from posthouse.message.envelope import Envelope

DIRECTORY = "quarantine"
_LINE_LIMIT = 16 * 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class NoSuchMessage(Exception):
    """There is none of that name, or it can't be read: the text says which."""


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding: see ``verdict.Finding``."""

    kind: str
    name: str
    part: str = ""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a message is here. ``envelope.recipients`` are those for whom it is; ``arrived`` is seconds since 1970,
    ``size_bytes`` that of the message."""

    envelope: Envelope
    arrived: float
    size_bytes: int
    action: str = "quarantine"
    score: float = 0.0
    direction: str = "inbound"
    client: str = ""
    helo: str = ""
    subject: str = ""
    findings: tuple[Found, ...] = ()
    reasons: tuple[str, ...] = ()


class Release(msgspec.Struct, frozen=True, omit_defaults=True):
    """It was let go ``at`` (seconds since 1970) by ``who`` to these, as another message of that trace id."""

    at: float
    who: str
    recipients: tuple[str, ...]
    trace_id: str


class State(msgspec.Struct, omit_defaults=True):
    """What was decided about a message. ``is_false``: it should not have been kept, says ``reported_by``."""

    releases: list[Release] = []
    is_false: bool = False
    reported_by: str = ""


_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(Record).decode
_decode_state = msgspec.json.Decoder(State).decode


class Kept(msgspec.Struct):
    """A message of the quarantine."""

    id: str
    record: Record
    state: State
    path: str
    offset: int

    def open(self) -> BinaryIO:
        """The message's file, at its first octet. Raises ``OSError``."""
        file = open(self.path, "rb", opener=lambda path, _: os.open(path, _OPEN_FLAGS))  # noqa: SIM115
        file.seek(self.offset)
        return file


class Quarantine:
    """The directory. Several processes may use it at once."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.messages = os.path.join(directory, "messages")
        self._states = os.path.join(directory, "state")
        self._temporary = os.path.join(directory, "tmp")

    def prepare(self) -> None:
        """Make the directories. Raises ``OSError``."""
        for path in (self.messages, self._states, self._temporary):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def plan(self, record: Record, prefix: bytes) -> Put:
        """How the file comes into being, for ``Journal.commit`` with the content behind ``prefix``."""
        name = record.envelope.trace_id
        return Put(
            os.path.join(self._temporary, _checked(name)),
            os.path.join(self.messages, name),
            prefix=b"%b\n%b" % (_encode(record), prefix),
        )

    def names(self) -> Iterator[str]:
        """All that is there, in no order."""
        try:
            with os.scandir(self.messages) as entries:
                for entry in entries:
                    if _ID.fullmatch(entry.name):
                        yield entry.name
        except FileNotFoundError:
            return

    def load(self, name: str) -> Kept:
        """Raises ``NoSuchMessage``, ``OSError``."""
        path = os.path.join(self.messages, _checked(name))
        try:
            with open(path, "rb", opener=lambda path, _: os.open(path, _OPEN_FLAGS)) as file:
                line = file.readline(_LINE_LIMIT)
        except FileNotFoundError:
            raise NoSuchMessage(f"{name}: there is no such message in the quarantine") from None
        try:
            record = _decode_record(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise NoSuchMessage(f"{path}: this is no message of the quarantine: {error}") from None
        return Kept(name, record, self._state(name), path, len(line))

    def _state(self, name: str) -> State:
        try:
            with open(os.path.join(self._states, name), "rb") as file:
                return _decode_state(file.read(_LINE_LIMIT))
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeError, RecursionError):
            return State()

    def save(self, kept: Kept) -> None:
        """Make its state durable. Raises ``OSError``."""
        temporary = os.path.join(self._temporary, f"{kept.id}.state.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(_encode(kept.state))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, os.path.join(self._states, kept.id))
        sync_directory(self._states)

    def remove(self, name: str) -> bool:
        """Delete one; whether it was there. Raises ``OSError``."""
        try:
            os.unlink(os.path.join(self.messages, _checked(name)))
            is_there = True
        except FileNotFoundError:
            is_there = False
        try:
            os.unlink(os.path.join(self._states, name))
        except FileNotFoundError:
            pass
        return is_there


def _checked(name: str) -> str:
    if not _ID.fullmatch(name):
        raise NoSuchMessage(f"{name!r} is no message's ID")
    return name


def sync_directory(path: str) -> None:
    """Make the names in it durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
