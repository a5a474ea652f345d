"""What start-up does with the journals that the processes before left behind.

The same boot: the page cache survived, so all that was acknowledged is in place; it only has to reach the disk
before the segments are used again. Another boot: the power failed, or the kernel, and each record since the
last checkpoint is put in place again where its file is nowhere or torn.

Invariants:
  1. No segment is freed before all that it names is durable; a crash on the way means another recovery.
  2. Nothing whole is written over, nothing is deleted. At worst a message deleted seconds ago comes back.
  3. An error ends it with the segments as they were: better no server than one that forgot mail.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from posthouse.journal.checkpoint import HELD, sync_file_systems
from posthouse.journal.format import Record
from posthouse.journal.journal import lock_directory
from posthouse.journal.operations import Append, Cancel, Gone, Put
from posthouse.journal.placing import NO_LINK, Body, body_of, sync_directory, write_all, write_file
from posthouse.journal.segment import BOOT_ID, SEGMENT_NAME, Segment, current_boot_id

Find = Callable[[str], str | None]
"""Where the file that was put at a path lies now (a Maildir's reader renames it), or None if nowhere.

FileNotFoundError says the same: the power cut may have taken the directories on the way there, too."""


@dataclass(slots=True)
class RecoveryReport:
    """What was found and done. Paths are final ones, as committed."""

    journals: int = 0
    segments: int = 0
    """Those with records."""
    records: int = 0
    power_failed: bool = False
    """Whether any record was of another boot, and so was replayed."""
    restored: list[str] = field(default_factory=list[str])
    """Files that were nowhere."""
    rewritten: list[str] = field(default_factory=list[str])
    """Files that were torn."""
    lines: int = 0
    """Lines that were missing at the end of a file."""
    remaining: list[str] = field(default_factory=list[str])
    """Gone on record, yet there: the removal never reached the disk. Whoever owns them may remove them."""
    unreadable: list[str] = field(default_factory=list[str])
    """Segments without a whole header: their making was cut short."""


@dataclass(frozen=True, slots=True)
class _Found:
    segment: Segment
    record: Record


def in_place(path: str) -> str | None:
    """The simplest Find: for files that nobody renames."""
    return path if os.path.lexists(path) else None


def recover(directory: str, find: Find = in_place, *, boot_id_path: str = BOOT_ID) -> RecoveryReport:
    """Recovers all journals in ``directory`` and below. Before any Journal there is started.

    Raises BlockingIOError where one is in use, OSError where something can't be put in place.
    """
    report = RecoveryReport()
    boot_id = current_boot_id(boot_id_path)
    locks: list[int] = []
    segments: list[Segment] = []
    try:
        found: list[_Found] = []
        journals = journal_directories(directory)
        for journal in journals:
            locks.append(lock_directory(journal))
            found += _read_journal(journal, segments, report)
        report.journals = len(journals)
        report.segments = sum(segment.has_records for segment in segments)
        report.records = len(found)
        for boot in _boots_in_order(segments):
            if boot != boot_id:
                report.power_failed = True
                _Replay([item for item in found if item.segment.boot_id == boot], find, report).run()
        _free(segments, boot_id)
    finally:
        for segment in segments:
            segment.close()
        for lock in locks:
            os.close(lock)
    return report


def journal_directories(directory: str) -> list[str]:
    """Those in ``directory`` and below that hold segments."""
    return sorted(
        path
        for path, _, names in os.walk(os.path.abspath(directory))
        if any(SEGMENT_NAME.fullmatch(name) or name == HELD for name in names)
    )


def _read_journal(journal: str, segments: list[Segment], report: RecoveryReport) -> Iterable[_Found]:
    for name in sorted(os.listdir(journal)):
        if SEGMENT_NAME.fullmatch(name) or name == HELD:
            path = os.path.join(journal, name)
            opened = Segment.open(path)
            if opened is None:
                report.unreadable.append(path)
                continue
            segment, records = opened
            segments.append(segment)
            yield from (_Found(segment, record) for record in records)


def _boots_in_order(segments: Iterable[Segment]) -> list[str]:
    """The boots that left records, the latest last; stamps compare within one only."""
    latest: dict[str, float] = {}
    for segment in segments:
        if segment.has_records:
            written = os.fstat(segment.fd).st_mtime
            latest[segment.boot_id] = max(latest.get(segment.boot_id, written), written)
    return sorted(latest, key=latest.__getitem__)


def _free(segments: list[Segment], boot_id: str) -> None:
    sync_file_systems(set(chain.from_iterable(segment.directories for segment in segments)))
    for segment in segments:
        if os.path.basename(segment.path) == HELD:
            os.unlink(segment.path)
            sync_directory(os.path.dirname(segment.path))
        else:
            segment.renew(boot_id, segment.epoch + 1)


class _Replay:
    """The records of one boot, put in place again."""

    def __init__(self, found: list[_Found], find: Find, report: RecoveryReport) -> None:
        cancelled = {
            (item.segment.journal, operation.stamp)
            for item in found
            for operation in item.record.operations
            if type(operation) is Cancel
        }
        kept = [item for item in found if (item.segment.journal, item.record.stamp) not in cancelled]
        self._found = sorted(kept, key=lambda item: item.record.stamp)
        self._find = find
        self._report = report
        self._latest: dict[str, int] = {}
        """The stamp of the last record that puts a path or says it is gone: earlier ones are over for it."""

    def run(self) -> None:
        self._report.remaining += sorted(path for path in self._settle() if os.path.lexists(path))
        lines: dict[str, list[bytes]] = {}
        for item in self._found:
            for operation in item.record.operations:
                if type(operation) is Put:
                    self._put_again(operation, item)
                elif type(operation) is Append and self._counts(operation.path, item):
                    lines.setdefault(operation.path, []).append(operation.line)
        for path, added in lines.items():
            self._report.lines += add_missing_lines(path, b"".join(added))

    def _settle(self) -> set[str]:
        """Finds the last word on each path; returns those that are gone."""
        gone: set[str] = set()
        for item in self._found:
            puts = [operation for operation in item.record.operations if type(operation) is Put]
            there = {path for put in puts for path in (put.path, *put.links)}
            no_more = {operation.path for operation in item.record.operations if type(operation) is Gone}
            gone |= no_more
            gone -= there
            self._latest.update(dict.fromkeys(there | no_more, item.record.stamp))
        return gone

    def _counts(self, path: str, item: _Found) -> bool:
        return self._latest.get(path, 0) <= item.record.stamp

    def _put_again(self, put: Put, item: _Found) -> None:
        paths = [path for path in (put.path, *put.links) if self._counts(path, item)]
        if not paths:
            return
        body = body_of(item.segment.content(item.record))
        places = {path: self._place_of(path) for path in paths}
        whole = [place for place in places.values() if place is not None and is_whole(place, put, body)]
        wrong = [path for path in paths if places[path] not in whole]
        if not wrong:
            return
        for path in {put.temporary, *wrong}:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        _unlink_if_there(put.temporary)
        if whole:
            os.link(whole[0], put.temporary)
        else:
            write_file(put, body, synced=False)
        for path in wrong:
            place = places[path]
            try:
                replace_by_link(put.temporary, place or path)
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                replace_by_copy(put, body, place or path)
            (self._report.rewritten if place else self._report.restored).append(path)
        os.unlink(put.temporary)

    def _place_of(self, path: str) -> str | None:
        try:
            return self._find(path)
        except FileNotFoundError:
            return None


def is_whole(path: str, put: Put, body: Body) -> bool:
    """Whether the file begins with all that was put there. Lines may have been added since."""
    expected = b"".join((put.prefix, *body(put.lf)))
    try:
        with open(path, "rb") as file:
            return file.read(len(expected)) == expected
    except FileNotFoundError:
        return False


def replace_by_link(source: str, path: str) -> None:
    """Gives the file the other name too, whatever had that name, at no moment none."""
    intermediate = source + ".again"
    _unlink_if_there(intermediate)
    os.link(source, intermediate)
    try:
        os.rename(intermediate, path)
    except OSError:
        os.unlink(intermediate)
        raise


def replace_by_copy(put: Put, body: Body, path: str) -> None:
    """The same where no link can be had. Such a commit was about to be cancelled; a message too many does no harm."""
    folder, name = os.path.dirname(os.path.dirname(path)), os.path.basename(path)
    copy = replace(put, temporary=os.path.join(folder, "tmp", name))
    os.makedirs(os.path.dirname(copy.temporary), 0o700, exist_ok=True)
    _unlink_if_there(copy.temporary)
    write_file(copy, body, synced=False)
    os.rename(copy.temporary, path)


def add_missing_lines(path: str, lines: bytes) -> int:
    """Adds those that the file hasn't, after cutting off a torn last line; returns how many."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(fd, "r+b", buffering=0) as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        present = set(data[:end].split(b"\n"))
        missing = [line for line in dict.fromkeys(lines.split(b"\n")) if line and line not in present]
        if missing:
            file.truncate(end)
            file.seek(end)
            write_all(fd, [b"\n".join(missing), b"\n"])
    return len(missing)


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
