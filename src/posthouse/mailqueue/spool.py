"""The spool: the queue on disk, below ``<data_dir>/queue``.

::

    messages/ID   one JSON line (envelope, arrival, whether on hold), then the message in CRLF; immutable
    state/ID      JSON: what became of each recipient so far, hold; absent while there is nothing to remember
    wake/ID       empty: ID's state was changed by someone other than the runner
    corrupt/      what was found in messages/ or state/ and could not be read
    tmp/          files on their way to their place

ID is the message's trace id: unique, ordered by time, safe as a file name.

Invariants:
  1. A message is on disk from before its 250 until every recipient is delivered, reported or deleted by the operator.
  2. State changes only under the message's lock (``flock`` on its file): the runner holds it during an attempt.
  3. State is replaced whole and is durable when ``save`` returns.
  4. Nothing that can't be read is deleted.
"""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Self

import msgspec

from posthouse.base.errors import Reply
from posthouse.journal.checkpoint import sync_file_systems
from posthouse.journal.journal import Journal
from posthouse.journal.operations import Gone, Put
from posthouse.mailqueue.state import MessageState, RecipientState
from posthouse.message.envelope import Envelope
from posthouse.runtime.log import log

HEAD_LIMIT = 16 * 1024 * 1024
"""Longest first line: an envelope of several thousand recipients."""
TEMPORARY_LIFETIME_SECONDS = 86_400
"""Files in tmp/ that are older were left behind by a crash."""

_READ_SIZE = 64 * 1024
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOREIGN = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR})
"""Opening a symbolic link, a socket, a directory."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CorruptMessageError(Exception):
    """A file in the spool that is no message of ours, or no longer one."""


class BusyError(Exception):
    """The message's lock is held: an attempt runs, or the operator is changing it."""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of a message file. ``size_bytes`` is what follows it, -1 where it was not known; ``hold``: it
    came on hold, for the ``reason``; both count until there is a state."""

    envelope: Envelope
    arrived: float
    size_bytes: int = -1
    hold: bool = False
    reason: Reply | None = None


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_state = msgspec.json.Decoder(MessageState).decode


@dataclass(slots=True)
class QueuedMessage:
    """One message of the queue. ``arrived`` is seconds since the epoch, ``size_bytes`` without the first line."""

    id: str
    envelope: Envelope
    arrived: float
    size_bytes: int
    state: MessageState
    path: str
    offset: int

    def open(self) -> BinaryIO:
        """The message's file, positioned at its first octet. Raises ``OSError``."""
        file = open(self.path, "rb", buffering=0, opener=lambda path, _: os.open(path, _OPEN_FLAGS))  # noqa: SIM115
        file.seek(self.offset)
        return file


def owner_of(message: QueuedMessage) -> str:
    """Whose mail it is, where there is to be a fair share for everybody: the login's, or else the sender's."""
    return message.envelope.login or message.envelope.sender


class Claim:
    """A message whose lock is held."""

    __slots__ = ("_descriptor", "message")

    def __init__(self, message: QueuedMessage, descriptor: int) -> None:
        self.message = message
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock; done at once, and once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Spool:
    """The queue's directory. Several processes may use it at once; none of them holds anything back in memory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.messages = os.path.join(directory, "messages")
        self.wakes = os.path.join(directory, "wake")
        self._states = os.path.join(directory, "state")
        self._corrupt = os.path.join(directory, "corrupt")
        self._temporary = os.path.join(directory, "tmp")

    def prepare(self) -> None:
        """Make the directories. Raises ``OSError``."""
        for path in (self.messages, self.wakes, self._states, self._corrupt, self._temporary):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def sweep(self) -> None:
        """Clear away what crashes left behind: old temporary files, states of messages that have gone.

        The runner's, at its start: after the journal's recovery, so that no message is about to come back.
        """
        expired = time.time() - TEMPORARY_LIFETIME_SECONDS
        with os.scandir(self._temporary) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < expired:
                    _unlink_if_there(entry.path)
        with os.scandir(self._states) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and not os.path.lexists(
                    os.path.join(self.messages, entry.name)
                ):
                    _unlink_if_there(entry.path)

    def plan(
        self,
        envelope: Envelope,
        *,
        header_prefix: bytes,
        now: datetime,
        content_size: int = -1,
        hold: bool = False,
        reason: Reply | None = None,
    ) -> Put:
        """How the message's file comes into being, for ``Journal.commit`` with the content behind ``header_prefix``.

        With ``content_size`` (octets in CRLF form) a file that a power cut left torn is told from a whole one.
        With ``hold`` it is not attempted until the operator releases it; he is shown the ``reason``.
        Raises ``OSError`` for an envelope that is too long to be read again.
        """
        if not _ID.fullmatch(envelope.trace_id):
            raise ValueError(f"{envelope.trace_id!a} is no trace id")
        size_bytes = len(header_prefix) + content_size if content_size >= 0 else -1
        head = _encode(_Head(envelope, now.timestamp(), size_bytes, hold, reason))
        if len(head) >= HEAD_LIMIT:
            raise OSError(errno.EMSGSIZE, f"{len(envelope.recipients)} recipients make too long an envelope")
        return Put(
            temporary=os.path.join(self._temporary, envelope.trace_id),
            path=os.path.join(self.messages, envelope.trace_id),
            prefix=b"%b\n%b" % (head, header_prefix),
        )

    # Reading.

    def names(self) -> Iterator[str]:
        """Everything that lies in messages/, in no order; an empty queue where there is no spool yet."""
        try:
            with os.scandir(self.messages) as entries:
                for entry in entries:
                    yield entry.name
        except FileNotFoundError:
            return

    def load(self, name: str) -> QueuedMessage | None:
        """The message and its state; None when it has gone. Raises ``CorruptMessageError``, ``OSError``."""
        descriptor = self._open(name)
        if descriptor is None:
            return None
        try:
            return self._read(name, descriptor)
        finally:
            os.close(descriptor)

    # Changing.

    def claim(self, name: str) -> Claim | None:
        """Take the message's lock and load it; None when it has gone.

        Raises ``BusyError`` when someone else has it, ``CorruptMessageError``, ``OSError``.
        """
        descriptor = self._open(name)
        if descriptor is None:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                os.close(descriptor)
                return None
            return Claim(self._read(name, descriptor), descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise BusyError(name) from None
        except BaseException:
            os.close(descriptor)
            raise

    def save(self, message: QueuedMessage) -> None:
        """Make the state durable; the caller has the claim. Raises ``OSError``."""
        os.rename(self._write_state(message, is_synced=True), self._state_path(message.id))
        _sync_directory(self._states)

    def save_all(self, messages: Sequence[QueuedMessage]) -> None:
        """The same for many, at the price of one; the caller has all the claims. Raises ``OSError``."""
        if len(messages) < 2:
            for message in messages:
                self.save(message)
            return
        temporaries = [self._write_state(message, is_synced=False) for message in messages]
        sync_file_systems([self._temporary])
        for temporary, message in zip(temporaries, messages, strict=True):
            os.rename(temporary, self._state_path(message.id))
        _sync_directory(self._states)

    def _write_state(self, message: QueuedMessage, *, is_synced: bool) -> str:
        temporary = os.path.join(self._temporary, f"{message.id}.state.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            self._give_to_owner(descriptor)
            data = _encode(message.state)
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), temporary)
            if is_synced:
                os.fsync(descriptor)
        return temporary

    def wake(self, name: str) -> None:
        """Tell the runner that this message's state is another."""
        path = os.path.join(self.wakes, name)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def woken(self) -> list[str]:
        """Whose state was changed since the last call. The runner's."""
        names: list[str] = []
        with os.scandir(self.wakes) as entries:
            for entry in entries:
                os.unlink(entry.path)
                names.append(entry.name)
        return names

    async def remove(self, message: QueuedMessage, journal: Journal) -> None:
        """Done with it, for good: a recovery after a power cut doesn't bring it back. The caller has the claim."""
        # State goes last: should a power cut bring the message back, what was done for it is still known.
        os.unlink(message.path)
        await journal.commit(None, [Gone(message.path)])
        _unlink_if_there(self._state_path(message.id))

    def set_aside(self, name: str, reason: str) -> None:
        """Move what is no message into corrupt/, where the operator can look at it."""
        self._move_to_corrupt(os.path.join(self.messages, name), name, reason)

    # Inside.

    def _state_path(self, name: str) -> str:
        return os.path.join(self._states, name)

    def _open(self, name: str) -> int | None:
        if not _ID.fullmatch(name):
            raise CorruptMessageError("its name is no trace id")
        try:
            descriptor = os.open(os.path.join(self.messages, name), _OPEN_FLAGS)
        except FileNotFoundError:
            return None
        except OSError as failure:
            if failure.errno in _FOREIGN:
                raise CorruptMessageError("not a regular file") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise CorruptMessageError("not a regular file")
        return descriptor

    def _read(self, name: str, descriptor: int) -> QueuedMessage:
        line = _first_line(descriptor)
        try:
            head = _decode_head(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as failure:
            raise CorruptMessageError(f"its envelope can't be read: {failure}") from None
        size_bytes = os.fstat(descriptor).st_size - len(line) - 1
        if head.size_bytes not in (-1, size_bytes):
            raise CorruptMessageError(f"{size_bytes} octets where there should be {head.size_bytes}")
        if head.envelope.trace_id != name or not head.envelope.recipients:
            raise CorruptMessageError("its envelope is another message's")
        first = MessageState([RecipientState(reply=head.reason) for _ in head.envelope.recipients], head.hold)
        state = self._load_state(name, first)
        path = os.path.join(self.messages, name)
        return QueuedMessage(name, head.envelope, head.arrived, size_bytes, state, path, len(line) + 1)

    def _load_state(self, name: str, first: MessageState) -> MessageState:
        """``first`` is what it is where there is nothing to remember yet."""
        path = self._state_path(name)
        try:
            state = _decode_state(_contents(path))
            if len(state.recipients) == len(first.recipients):
                return state
            reason = f"{len(state.recipients)} recipients where the message has {len(first.recipients)}"
        except FileNotFoundError:
            return first
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as failure:
            reason = str(failure)
        except OSError as failure:
            if failure.errno not in _FOREIGN:
                raise
            reason = "not a regular file"
        # Without its state a message is attempted anew: at worst somebody gets it twice.
        self._move_to_corrupt(path, f"{name}.state", reason)
        return first

    def _move_to_corrupt(self, path: str, name: str, reason: str) -> None:
        target = os.path.join(self._corrupt, f"{name}.{time.time_ns()}")
        try:
            os.rename(path, target)
        except OSError as failure:
            log.error("spool-file-corrupt", file=path, reason=reason, error=str(failure))
            return
        log.error("spool-file-corrupt", file=path, reason=reason, moved_to=target)

    def _give_to_owner(self, descriptor: int) -> None:
        """What root's command line writes must stay readable for the user that the runner runs as."""
        if os.geteuid() == 0:
            owner = os.stat(self.directory)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _first_line(descriptor: int) -> bytes:
    """Up to the first LF, without it."""
    parts: list[bytes] = []
    position = 0
    while position < HEAD_LIMIT and (part := os.pread(descriptor, _READ_SIZE, position)):
        end = part.find(b"\n")
        if end >= 0:
            return b"".join([*parts, part[:end]])
        parts.append(part)
        position += len(part)
    raise CorruptMessageError("its first line has no end")


def _contents(path: str) -> bytes:
    """Raises ``OSError``."""
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        data = os.read(descriptor, _READ_SIZE)
        if len(data) < _READ_SIZE:
            return data
        parts = [data]
        while len(parts) * _READ_SIZE < HEAD_LIMIT and (data := os.read(descriptor, _READ_SIZE)):
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
