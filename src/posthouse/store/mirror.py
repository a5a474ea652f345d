"""An mbox file and the Maildir beside it that shows it: ``bob`` and ``bob:posthouse/``.

Sessions work on the Maildir, whose INBOX is kept the same as the file. Each side may change at any time; ``state``
has what both were when they were last the same, so that what is missing or has other flags on one side was changed
there. Messages are known by digests of their octets. Whatever breaks off is taken up by the next exchange.

Invariants:
  1. The file is read and written only under its locks, as delivery has them.
  2. A message is in the Maildir, durably, before the state names it: what the state names and the Maildir lacks was
     expunged.
  3. While the file is rewritten there is no state: after a crash nothing counts as expunged, and what is missing on
     one side is put there from the other.
  4. It happens inside ``Index.changing()``: nothing of ours changes the Maildir meanwhile.
"""

import contextlib
import hashlib
import os
import re
import stat
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from posthouse.base.errors import TryLater
from posthouse.journal.checkpoint import sync_file_systems
from posthouse.store import filename, mbox, mboxformat, quota, uidlist
from posthouse.store.crlf import to_crlf
from posthouse.store.dotlock import Dotlock
from posthouse.store.keywords import Keywords
from posthouse.store.layout import Folder, replace_file, sync_directory

LARGEST_BYTES = 256 * 1024 * 1024
LOCK_SECONDS = 10.0
_TICK_NS = 20_000_000  # what has changed so shortly before may change again without another mtime
_STATE = "posthouse-mbox"
_UNKNOWN = "-"
_notes = re.compile(
    rb"^(?:Content-Length|Lines|X-UIDL|X-Mozilla-[A-Za-z0-9]+|X-Evolution):.*\n(?:[ \t].*\n)*",
    re.MULTILINE | re.IGNORECASE,
)
Key = tuple[str, int]
"""A message's digest, and which of those that are the same it is."""


@dataclass(slots=True)
class _Known:
    """A message when both sides were last the same."""

    base: str
    mask: int


@dataclass(slots=True)
class _InFile:
    """A message in the file. ``raw`` is read again from its place when it is needed."""

    start: int
    size: int
    mask: int
    is_old: bool
    uid: int


@dataclass(slots=True)
class _Side:
    """The Maildir: place and flags of each message by base."""

    paths: dict[str, str] = field(default_factory=dict[str, str])
    masks: dict[str, int] = field(default_factory=dict[str, int])


def is_same(folder: Folder, path: str) -> bool:
    """Whether neither side has changed since the last exchange."""
    try:
        with open(f"{folder.path}/{_STATE}", encoding="utf-8") as file:
            said = file.readline().rstrip("\n")
        state = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return said == f"{_stamp(state)} {_directory_stamp(folder)}"


def exchange(folder: Folder, path: str, keywords: Keywords, host: str) -> None:
    """Makes both sides the same. Raises OSError, and TryLater where the file is locked or is no mbox file."""
    with mbox.locked(path, LOCK_SECONDS) as file:
        _Exchange(folder, path, keywords, host, file).run()


class _Exchange:
    """One exchange, under all locks."""

    def __init__(self, folder: Folder, path: str, keywords: Keywords, host: str, file: BinaryIO) -> None:
        self.folder = folder
        self.path = path
        self.keywords = keywords
        self.host = host
        self.file = file
        self.started_ns = time.time_ns()
        self.file_stamp = _stamp(os.fstat(file.fileno()))
        self.directory_stamp = _directory_stamp(folder)
        self.known, said = _read_state(folder)
        self.ours = _maildir(folder)
        self.is_file_same = said == self.file_stamp
        self.uid_base: tuple[int, int] | None = None

    def run(self) -> None:
        if self.is_file_same and self._is_ours_same():
            self._write_state(list(self.known.items()))
            return
        internal, theirs = self._read_file()
        keys, flags, dropped, fresh = self._compare(theirs)
        added = self._put(fresh, theirs)
        if self.uid_base and not self.known:
            self._take_over_uids({**keys, **added}, theirs, *self.uid_base)
        kept: list[tuple[Key, _Known]] = []
        for key in theirs:
            if key not in dropped:
                base = keys.get(key) or added[key]
                kept.append((key, _Known(base, flags.get(key, theirs[key].mask))))
        bases = {known.base for _, known in kept}
        appended = [base for base in sorted(self.ours.paths, key=filename.arrival) if base not in bases]
        self._write_file(internal, theirs, dropped, flags, appended)
        kept += [(("", 0), _Known(base, self.ours.masks[base])) for base in appended]
        self._write_state(kept)

    def _is_ours_same(self) -> bool:
        masks = {known.base: known.mask for known in self.known.values()}
        return masks == self.ours.masks

    def _read_file(self) -> tuple[list[_InFile], dict[Key, _InFile]]:
        """The messages in their order; and c-client's, which nobody sees."""
        internal: list[_InFile] = []
        found: dict[Key, _InFile] = {}
        count = Counter[str]()
        try:
            for start, raw in mboxformat.segments(self.file, LARGEST_BYTES):
                if raw is None:
                    raise TryLater(f"{self.path}: a message is longer than {LARGEST_BYTES} octets")
                message = mboxformat.parsed(raw)
                mask = self.keywords.mask(message.flags)
                entry = _InFile(start, len(raw), mask, message.is_old, message.uid)
                if not start:  # elsewhere it is nobody's but the sender's
                    self.uid_base = message.uid_base
                if message.is_internal and not start:
                    internal.append(entry)
                    continue
                digest = digest_of(message.data)
                found[digest, count[digest]] = entry
                count[digest] += 1
        except mboxformat.NoMbox:
            raise TryLater(f"{self.path} is no mbox file: it does not begin with a 'From ' line") from None
        return internal, found

    def _compare(self, theirs: dict[Key, _InFile]) -> tuple[dict[Key, str], dict[Key, int], set[Key], list[Key]]:
        """Which base each of their messages has, which flags it is to get, who is to go, and who is new to us."""
        keys: dict[Key, str] = {}
        flags: dict[Key, int] = {}
        dropped: set[Key] = set()
        for key, known in self.known.items():
            if key not in theirs:
                self._remove(known.base)
            elif known.base not in self.ours.paths:
                dropped.add(key)
            else:
                keys[key] = known.base
                self._agree(key, known, theirs[key], flags)
        by_digest = self._unknown_of_ours()
        fresh: list[Key] = []
        for key in theirs:
            if key in self.known:
                continue
            if same := by_digest.get(key[0]):
                base = keys[key] = same.pop(0)
                flags[key] = self.ours.masks[base]
            else:
                fresh.append(key)
        return keys, flags, dropped, fresh

    def _agree(self, key: Key, known: _Known, entry: _InFile, flags: dict[Key, int]) -> None:
        mask = self.ours.masks[known.base]
        if mask != known.mask:
            flags[key] = mask
        elif entry.mask != mask:
            self._flag(known.base, entry.mask)

    def _unknown_of_ours(self) -> dict[str, list[str]]:
        """Bases that are new in the Maildir, by digest: what was put there, or what broke off has left."""
        bases = {known.base for known in self.known.values()}
        found: dict[str, list[str]] = defaultdict(list)
        for base in sorted(self.ours.paths, key=filename.arrival):
            if base not in bases:
                found[self._digest(base)].append(base)
        return found

    # The Maildir

    def _digest(self, base: str) -> str:
        raw = mboxformat.rendered(self._content(base), frozenset(), 0.0)
        return digest_of(mboxformat.parsed(raw).data)

    def _content(self, base: str) -> bytes:
        with open(f"{self.folder.path}/{self.ours.paths[base]}", "rb") as file:
            return file.read()

    def _remove(self, base: str) -> None:
        place = self.ours.paths.pop(base, None)
        if place is not None:
            self.ours.masks.pop(base)
            path = f"{self.folder.path}/{place}"
            quota.add(self.folder.path, -os.lstat(path).st_size, -1)
            os.unlink(path)

    def _flag(self, base: str, mask: int) -> None:
        place = f"cur/{base}{filename.info_with(filename.split(self.ours.paths[base])[1], mask)}"
        os.rename(f"{self.folder.path}/{self.ours.paths[base]}", f"{self.folder.path}/{place}")
        self.ours.paths[base], self.ours.masks[base] = place, mask

    def _put(self, fresh: list[Key], theirs: dict[Key, _InFile]) -> dict[Key, str]:
        """Their new messages: written aside, synced, and only then shown."""
        added: dict[Key, str] = {}
        moves: list[tuple[str, str]] = []
        octets = 0
        now_ns = time.time_ns()
        for number, key in enumerate(fresh):
            entry = theirs[key]
            message = mboxformat.parsed(self._raw(entry))
            size = len(to_crlf(message.data))
            stem = filename.unique_base(self.host, now_ns + number * 1000)
            base = f"{stem},S={len(message.data)},W={size}"
            info = filename.info_with("", entry.mask)
            place = f"cur/{base}{info}" if entry.mask or entry.is_old else f"new/{base}"
            temporary = f"{self.folder.tmp}/{base}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(message.data)
            date = min(max(message.date, 0.0), 2.0**32 - 1)
            os.utime(temporary, (date, date))
            moves.append((temporary, f"{self.folder.path}/{place}"))
            octets += len(message.data)
            added[key] = base
            self.ours.paths[base], self.ours.masks[base] = place, entry.mask
        if moves:
            sync_file_systems([self.folder.tmp])
            for temporary, target in moves:
                os.rename(temporary, target)
            for place in ("new", "cur"):
                sync_directory(f"{self.folder.path}/{place}")
            quota.add(self.folder.path, octets, len(moves))
        return added

    def _take_over_uids(self, bases: dict[Key, str], theirs: dict[Key, _InFile], uidvalidity: int, last: int) -> None:
        """What Dovecot or c-client gave before it was our turn, as far as it ascends."""
        entries: list[uidlist.Entry] = []
        taken = 0
        for key, entry in theirs.items():
            if taken < entry.uid:
                taken = entry.uid
                entries.append((taken, bases[key], ""))
        with Dotlock(self.folder.uidlist):
            if not os.path.lexists(self.folder.uidlist) and 0 < uidvalidity < 2**32:
                uidnext = max(min(last, uidlist.LARGEST_UID), taken) + 1
                uidlist.rewrite(self.folder.uidlist, uidvalidity, uidnext, uuid.uuid4().hex, entries)

    # The file

    def _raw(self, entry: _InFile) -> bytes:
        self.file.seek(entry.start)
        return self.file.read(entry.size)

    def _write_file(
        self,
        internal: list[_InFile],
        theirs: dict[Key, _InFile],
        dropped: set[Key],
        flags: dict[Key, int],
        appended: list[str],
    ) -> None:
        changed = {key: mask for key, mask in flags.items() if mask != theirs[key].mask}
        if not (dropped or changed):
            if appended:
                state = mbox.extend(self.file, (self._rendered(base) for base in appended))
                self.file_stamp = _stamp(state)
            return
        chunks = self._segments(internal, theirs, dropped, changed, appended)
        _forget_state(self.folder)
        self.file_stamp = _stamp(mbox.rewrite(self.file, f"{self.folder.path}/{_STATE}.new", chunks))

    def _segments(
        self,
        internal: list[_InFile],
        theirs: dict[Key, _InFile],
        dropped: set[Key],
        changed: dict[Key, int],
        appended: list[str],
    ) -> Iterator[bytes]:
        for entry in internal:
            yield mboxformat.ended(self._raw(entry))
        for key, entry in theirs.items():
            if key in dropped:
                continue
            raw = self._raw(entry)
            if key in changed:
                raw = mboxformat.flagged(raw, self.keywords.flags(changed[key]))
            yield mboxformat.ended(raw)
        for base in appended:
            yield self._rendered(base)

    def _rendered(self, base: str) -> bytes:
        flags = self.keywords.flags(self.ours.masks[base])
        date = os.lstat(f"{self.folder.path}/{self.ours.paths[base]}").st_mtime
        return mboxformat.rendered(self._content(base), flags, date)

    # The state

    def _write_state(self, kept: list[tuple[Key, _Known]]) -> None:
        """In the file's order. A Maildir that changed a moment ago, or by us, is looked at again the next time."""
        lines = [f"{self.file_stamp} {self.directory_stamp if self._is_settled() else _UNKNOWN}"]
        lines += [f"{digest or self._digest(known.base)} {known.mask:x} {known.base}" for (digest, _), known in kept]
        text = "".join(f"{line}\n" for line in lines)
        replace_file(f"{self.folder.path}/{_STATE}", text.encode("utf-8", "surrogateescape"))

    def _is_settled(self) -> bool:
        if _directory_stamp(self.folder) != self.directory_stamp:
            return False
        changed_ns = max(os.stat(f"{self.folder.path}/{place}").st_mtime_ns for place in ("new", "cur"))
        return self.started_ns - changed_ns > _TICK_NS


def digest_of(data: bytes) -> str:
    """Of what survives in an mbox file, whatever becomes of line ends, and whatever programs note in the header."""
    head, end, body = data.replace(b"\r", b"").partition(b"\n\n")
    text = _notes.sub(b"", head + b"\n") + end + body
    return hashlib.sha256(text.rstrip(b"\n")).hexdigest()[:32]


def _read_state(folder: Folder) -> tuple[dict[Key, _Known], str]:
    """What was known, in the file's order, and the file's stamp of then."""
    known: dict[Key, _Known] = {}
    count = Counter[str]()
    try:
        with open(f"{folder.path}/{_STATE}", encoding="utf-8", errors="surrogateescape") as file:
            said = file.readline().rstrip("\n").partition(" ")[0]
            for line in file:
                digest, mask, base = line.rstrip("\n").split(" ", 2)
                known[digest, count[digest]] = _Known(base, int(mask, 16))
                count[digest] += 1
    except FileNotFoundError:
        return known, _UNKNOWN
    except ValueError:  # it is nobody's but ours, and replaced as a whole
        raise TryLater(f"{folder.path}/{_STATE} is damaged: move it away, with the Maildir it is in") from None
    return known, said


def _forget_state(folder: Folder) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder.path}/{_STATE}")
        sync_directory(folder.path)


def _maildir(folder: Folder) -> _Side:
    side = _Side()
    for path in folder.names("new") + folder.names("cur"):
        base, info = filename.split(path[4:])
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(os.lstat(f"{folder.path}/{path}").st_mode):
                side.paths[base], side.masks[base] = path, filename.mask_of(info)
    return side


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_mtime_ns}.{state.st_ino}.{state.st_size}"


def _directory_stamp(folder: Folder) -> str:
    states = [os.stat(f"{folder.path}/{place}") for place in ("new", "cur")]
    return ".".join(f"{state.st_mtime_ns}.{state.st_ino}" for state in states)
