"""Messages as they are rendered for clients: ready-made from the index, or read from their files.

What was worked out for one client (sizes, envelopes, structures, headers) goes into the index for the next.
Everything here blocks and runs in store threads; no lock is held while a file is read.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from posthouse.message import headers, mime
from posthouse.message.mime import Part
from posthouse.message.preview import preview
from posthouse.protocols.imap.structure import bodystructure_bytes, envelope_bytes
from posthouse.store import cache, crlf, sync
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.cache import Entry
from posthouse.store.crlf import LargeBody
from posthouse.store.layout import Folder
from posthouse.store.model import Want

T = TypeVar("T")

BATCH_MESSAGES = 1000
BATCH_FIELDS = 300
BATCH_CACHED = 100
BATCH_OCTETS = 1024 * 1024
DIGESTED_OCTETS = 1024 * 1024
HEADER_BLOCK = 16 * 1024  # longer header sections are not kept in the index


class Vanished(Exception):
    """The message's file is gone for good."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Messages whose every wanted thing is in the index, column by column.

    ``values``: seconds since the epoch for DATE, octets for SIZE, blocks of octets for the rest.
    """

    uids: Sequence[int]
    flags: Sequence[frozenset[str]]
    values: Mapping[Want, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What is wanted of many messages. ``render_columns`` makes one thing of many messages at once, where it is
    given and all that is wanted is in the index; ``render`` takes any message. ``names``: fields for FIELDS."""

    want: Want
    render: Callable[["Message"], T]
    render_columns: Callable[[Columns], T] | None = None
    names: frozenset[bytes] = frozenset()


class Message:
    """One message, loaded piece by piece as it is asked for. Lives only while it is rendered."""

    __slots__ = ("_body", "_entry", "_part", "_source", "flags", "uid")

    def __init__(self, source: "Source", uid: int, flags: frozenset[str], entry: Entry | None) -> None:
        self.uid = uid
        self.flags = flags
        self._source = source
        self._entry = entry
        self._body: bytes | LargeBody | None = None
        self._part: Part | None = None

    @property
    def entry(self) -> Entry:
        if self._entry is None:
            self._entry = self._source.entry(self.uid)
        return self._entry

    @property
    def internal_date(self) -> datetime:
        return datetime.fromtimestamp(int(self.entry.date), UTC)

    @property
    def saved(self) -> datetime | None:
        """When it came into its mailbox, as far as that is known."""
        seconds = self.entry.saved
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    @property
    def email_id(self) -> str:
        """The same for the same octets (RFC 8474 §5.1)."""
        entry = self.entry
        if entry.email_id is None:
            digest = hashlib.sha256()
            for at in range(0, max(self.size, 1), DIGESTED_OCTETS):
                digest.update(self.body(at, at + DIGESTED_OCTETS))
            entry.email_id = f"M{digest.hexdigest()[:40]}"
            entry.is_new = True
        return entry.email_id

    @property
    def preview(self) -> str:
        """How its text begins (RFC 8970)."""
        entry = self.entry
        if entry.preview is None:
            entry.preview = preview(self.part(), self.body)
            entry.is_new = True
        return entry.preview

    @property
    def modseq(self) -> int:
        """The modification sequence of its last change."""
        return self.entry.modseq

    @property
    def size(self) -> int:
        """RFC822.SIZE: octets of the CRLF form."""
        size = self.entry.size
        return len(self._load()) if size is None else size

    @property
    def envelope(self) -> bytes:
        """ENVELOPE, ready to be sent."""
        entry = self.entry
        if entry.envelope is None:
            entry.envelope = envelope_bytes(self.header())
            entry.is_new = True
        return entry.envelope

    def structure(self, extended: bool) -> bytes:
        """BODYSTRUCTURE, or BODY, ready to be sent."""
        entry = self.entry
        if extended and entry.structure is not None:
            return entry.structure
        rendered = bodystructure_bytes(self.part(), extended, self.body)
        if extended:
            entry.structure = rendered
            entry.is_new = True
        return rendered

    def header(self) -> bytes:
        """The whole header section with the blank line."""
        entry = self.entry
        if entry.header is not None:
            return entry.header
        if isinstance(self._body, bytes):
            header = self._body[: headers.header_end(self._body)]
        else:
            header = self._source.read_header(self.uid, entry)
        if len(header) <= HEADER_BLOCK:
            entry.header = header
            entry.is_new = True
        return header

    def header_fields(self, names: frozenset[bytes]) -> bytes:
        """The fields of these names, which are in lower case, and the blank line."""
        entry = self.entry
        is_kept = names == self._source.names
        if is_kept and entry.fields is not None:
            return entry.fields
        block = headers.only(self.header(), names)
        if is_kept and len(block) <= HEADER_BLOCK:
            entry.fields = block
            entry.has_new_fields = True
        return block

    def part(self) -> Part:
        """The MIME structure; offsets are those of ``body``."""
        if self._part is None:
            entry = self.entry
            if entry.parts is not None:
                try:
                    self._part = Part.from_bytes(entry.parts)
                    return self._part
                except msgspec.MsgspecError:
                    pass
            self._part = mime.scan(self._load())
            entry.parts = self._part.to_bytes()
            entry.is_new = True
        return self._part

    def body(self, start: int = 0, end: int | None = None) -> bytes:
        """A slice of the whole message in CRLF form."""
        return self._load()[start:end]

    def _load(self) -> bytes | LargeBody:
        if self._body is None:
            entry = self.entry
            self._body = self._source.load(self.uid, entry)
            if entry.size != len(self._body):
                entry.size = len(self._body)
                entry.is_new = True
        return self._body


class Source:
    """Where the messages of one view come from. ``keeps``: whether what is worked out goes into the index."""

    __slots__ = ("_files", "_folder", "_keeps", "_key", "_large", "_large_uid", "_read_only", "names")

    def __init__(
        self, files: AccountFiles, folder: Folder, uidvalidity: int, *, read_only: bool, keeps: bool = True
    ) -> None:
        self._files = files
        self._folder = folder
        self._key = (folder.name, uidvalidity)
        self.names = frozenset[bytes]()  # the fields of the batch at hand
        self._read_only = read_only
        self._keeps = keeps
        self._large: LargeBody | None = None  # the last one: clients ask for it piece by piece
        self._large_uid = 0

    def batch(self, uids: Sequence[int], flags: Sequence[frozenset[str]], request: Request[T]) -> tuple[list[T], int]:
        """Renders as many of the first messages as one batch should have; returns how many were dealt with."""
        if request.render_columns is not None and (columns := self._columns(uids, flags, request)) is not None:
            return [request.render_columns(columns)], len(columns.uids)
        return self._one_by_one(uids, flags, request)

    def _columns(self, uids: Sequence[int], flags: Sequence[frozenset[str]], request: Request[T]) -> Columns | None:
        if not request.want & ~Want.FLAGS:
            return Columns(uids, flags, {})
        with self._files.index.reading() as database:
            values = cache.columns(database, self._key, uids, request.want, request.names)
        if values is None:
            return None
        count = len(next(iter(values.values())))
        return Columns(uids[:count], flags[:count], values)

    def _one_by_one(
        self, uids: Sequence[int], flags: Sequence[frozenset[str]], request: Request[T]
    ) -> tuple[list[T], int]:
        want = request.want
        if want in cache.IN_INDEX | Want.FLAGS:
            count = BATCH_MESSAGES
        else:
            count = BATCH_FIELDS if want in cache.IN_INDEX | Want.FLAGS | Want.FIELDS else BATCH_CACHED
        needs_rows = bool(want & ~Want.FLAGS)
        self.names = request.names if Want.FIELDS in want else frozenset()
        entries = self._entries(uids[:count], want) if needs_rows else {}
        rendered: list[T] = []
        octets = done = 0
        for uid, set_flags in zip(uids[:count], flags, strict=False):
            done += 1
            entry = entries.get(uid)
            if entry is None and needs_rows:
                continue
            try:
                rendered.append(request.render(Message(self, uid, set_flags, entry)))
            except Vanished:
                continue
            if Want.BODY in want and entry:
                octets += entry.stored
                if octets >= BATCH_OCTETS:
                    break
        if self._keeps:
            self._keep(entries, want)
        return rendered, done

    def entry(self, uid: int) -> Entry:
        found = self._entries([uid], cache.IN_INDEX)
        if uid not in found:
            raise Vanished(uid)
        return found[uid]

    def load(self, uid: int, entry: Entry) -> bytes | LargeBody:
        """The whole message in CRLF form."""
        if self._large is not None and self._large_uid == uid:
            return self._large
        body = crlf.load(self._open(uid, entry), self._folder.tmp, convert=entry.size != entry.stored)
        if isinstance(body, LargeBody):
            self.close()
            self._large, self._large_uid = body, uid
        return body

    def read_header(self, uid: int, entry: Entry) -> bytes:
        """Only as much of the file as the header section needs."""
        with open(self._open(uid, entry), "rb", buffering=0) as file:
            data = file.read(HEADER_BLOCK)
            while (end := headers.header_end(data)) == len(data):
                more = file.read(len(data))
                if not more:
                    break
                data += more
        return data[:end] if entry.size == entry.stored else crlf.to_crlf(data[:end])

    def close(self) -> None:
        if self._large is not None:
            self._large.close()
            self._large = None

    def _open(self, uid: int, entry: Entry) -> int:
        """Another program may have renamed the file: then it is looked up anew."""
        for attempt in range(sync.ATTEMPTS):
            try:
                path = f"{self._folder.path}/{entry.path}"
                return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                self._synchronise(force=attempt > 0)
                found = self._select([uid], cache.IN_INDEX).get(uid)
                if found is None:
                    raise Vanished(uid) from None
                entry.path = found.path
        raise Vanished(uid)

    def _entries(self, uids: Sequence[int], want: Want) -> dict[int, Entry]:
        found = self._select(uids, want)
        if len(found) < len(uids):  # expunged, or the index was lost
            self._synchronise(force=False)
            found = self._select(uids, want)
        return found

    def _synchronise(self, *, force: bool) -> None:
        try:
            with self._files.index.changing() as database:
                host = self._files.host
                sync.synchronise(database, self._folder, host, move_new=not self._read_only, force=force)
        except FileNotFoundError:
            raise Vanished from None

    def _select(self, uids: Sequence[int], want: Want) -> dict[int, Entry]:
        with self._files.index.reading() as database:
            return cache.entries(database, self._key, uids, want, self.names)

    def _keep(self, entries: dict[int, Entry], want: Want) -> None:
        """Writes down what was worked out. It is only a cache: trouble with it is nobody's trouble."""
        fresh = [(uid, entry) for uid, entry in entries.items() if entry.is_new or entry.has_new_fields]
        if not fresh:
            return
        try:
            with self._files.index.changing() as database:
                cache.write(database, self._key, fresh, want, self.names)
        except sqlite3.OperationalError:
            return
