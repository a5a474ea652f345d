"""Recovery: after a power cut every acknowledged message is there, byte for byte."""

import errno
import os
import random
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.journal import format as layout
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.journal.operations import Append, Gone, Put
from posthouse.journal.recovery import recover
from posthouse.store.recovery import find_message

SEGMENT = 128 * 1024


class Host:
    """A machine with a mail root, some journals and a plug that can be pulled."""

    def __init__(self, path):
        self.path = path
        self.boot = path / "boot_id"
        self.boot.write_text("boot-0\n")
        self.boots = 0
        for directory in ("tmp", "new", "cur"):
            (path / "mail" / directory).mkdir(parents=True)
        self.journals: list[Journal] = []

    def journal(self, name, **options):
        options = {"segment_bytes": SEGMENT, "checkpoint_seconds": 60, **options}
        journal = Journal(str(self.path / "journals" / name), boot_id_path=str(self.boot), **options)
        journal.start()
        self.journals.append(journal)
        return journal

    def put(self, name, **options):
        return Put(str(self.path / "mail/tmp" / name), str(self.path / "mail/new" / name), **options)

    def file(self, name):
        return self.path / "mail/new" / name

    def power_cut(self):
        """All journals as they are on disk at this moment, and another boot."""
        shutil.copytree(self.path / "journals", self.path / "disk")
        for journal in self.journals:
            journal.close()
        self.journals.clear()
        shutil.rmtree(self.path / "journals")
        (self.path / "disk").rename(self.path / "journals")
        self.boots += 1
        self.boot.write_text(f"boot-{self.boots}\n")

    def recover(self):
        return recover(str(self.path / "journals"), self.find, boot_id_path=str(self.boot))

    def find(self, path):
        """As a Maildir's owner would: the reader may have moved it."""
        seen = path.replace("/new/", "/cur/") + ":2,S"
        return next((place for place in (path, seen) if os.path.lexists(place)), None)

    def mail(self):
        return {path.name: path.read_bytes() for path in (self.path / "mail").rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    for journal in host.journals:
        journal.close()


def commit(journal, data, *operations):
    journal.commit_blocking(Content.of(data) if data is not None else None, operations)


def test_all_that_the_power_cut_took_comes_back(host):
    worker, runner = host.journal("worker"), host.journal("runner")
    commit(worker, b"a\r\n", host.put("a", prefix=b"P: 1\n", lf=True, mode=0o640, mtime=1e9))
    commit(runner, b"b\r\n", host.put("b", links=(str(host.file("b2")),)))
    before = host.mail()
    host.power_cut()
    shutil.rmtree(host.path / "mail")

    report = host.recover()

    assert host.mail() == before
    assert host.file("a").stat().st_mode & 0o777 == 0o640
    assert host.file("a").stat().st_mtime == 1e9
    assert os.path.samefile(host.file("b"), host.file("b2"))
    assert report.power_failed
    assert sorted(report.restored) == [str(host.file(name)) for name in ("a", "b", "b2")]
    assert (report.journals, report.records) == (2, 2)


def test_mail_comes_back_into_a_maildir_that_the_power_cut_took_with_it(host):
    """A new account's first message, seconds before: the server must start again all the same."""
    commit(host.journal("worker"), b"a", host.put("a"))
    host.power_cut()
    shutil.rmtree(host.path / "mail")

    recover(str(host.path / "journals"), find_message, boot_id_path=str(host.boot))

    assert host.mail() == {"a": b"a"}


@pytest.mark.parametrize("torn", [b"", b"Subj", b"\0" * 16])
def test_a_torn_file_is_rewritten_where_it_lies(host, torn):
    """ext4 with delayed allocation: the rename is on disk before the content."""
    commit(host.journal("worker"), b"Subject: a\r\n\r\nb\r\n", host.put("a"))
    host.power_cut()
    host.file("a").unlink()
    moved = host.path / "mail/cur/a:2,S"
    moved.write_bytes(torn)

    report = host.recover()

    assert host.mail() == {"a:2,S": b"Subject: a\r\n\r\nb\r\n"}
    assert (report.restored, report.rewritten) == ([], [str(host.file("a"))])


def test_a_link_that_is_missing_is_made_from_the_one_that_is_there(host):
    commit(host.journal("worker"), b"a", host.put("a", links=(str(host.file("b")),)))
    host.power_cut()
    host.file("a").unlink()

    host.recover()

    assert os.path.samefile(host.file("a"), host.file("b"))


def test_a_link_between_file_systems_that_was_never_made_does_not_stop_the_recovery(host, monkeypatch):
    """The power went between a commit that could not be put in place and the record that takes it back."""
    far = host.path / "mail/far/new/b"
    for part in ("new", "tmp"):
        (host.path / "mail/far" / part).mkdir(parents=True)
    commit(host.journal("worker"), b"a", host.put("a", links=(str(far),)))
    host.power_cut()
    host.file("a").unlink()
    far.unlink()
    rename = os.rename

    def across(source, target):
        if ("/far/" in source) != ("/far/" in target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)
        rename(source, target)

    monkeypatch.setattr("posthouse.journal.recovery.os.rename", across)
    host.recover()

    assert host.mail() == {"a": b"a", "b": b"a"}


def test_in_the_same_boot_nothing_is_put_in_place_again(host):
    commit(host.journal("worker"), b"a", host.put("a"))
    host.power_cut()
    host.boot.write_text("boot-0\n")
    host.file("a").unlink()

    report = host.recover()

    assert host.mail() == {}
    assert (report.records, report.power_failed) == (1, False)
    assert host.recover().records == 0


def test_what_is_gone_stays_gone_whichever_journal_says_so(host):
    commit(host.journal("worker"), b"a", host.put("a"))
    host.file("a").unlink()
    commit(host.journal("runner"), None, Gone(str(host.file("a"))))
    host.power_cut()

    assert host.recover().restored == []
    assert host.mail() == {}


def test_a_removal_that_the_power_cut_undid_is_reported(host):
    worker = host.journal("worker")
    commit(worker, b"a", host.put("a"))
    commit(worker, None, Gone(str(host.file("a"))))
    host.power_cut()

    assert host.recover().remaining == [str(host.file("a"))]
    assert host.mail() == {"a": b"a"}


def test_a_gone_outlives_its_journals_checkpoint_while_another_journal_has_older_records(host):
    """The runner's checkpoint must not forget what the worker's records can still bring back."""
    worker, runner = host.journal("worker"), host.journal("runner")
    commit(worker, b"a", host.put("a"))
    host.file("a").unlink()
    commit(runner, None, Gone(str(host.file("a"))))
    runner.close()
    host.journals.remove(runner)
    runner = host.journal("runner")  # reads what the one before it held
    commit(runner, None, Gone("/something/else"))
    runner.close()
    host.journals.remove(runner)
    host.power_cut()

    assert host.recover().restored == []
    assert host.mail() == {}


def test_a_gone_is_forgotten_when_no_other_journal_has_older_records(host):
    worker, runner = host.journal("worker"), host.journal("runner")
    commit(runner, None, Gone(str(host.file("a"))))
    commit(worker, b"a", host.put("a"))  # the same name again, later
    runner.close()
    host.journals.remove(runner)
    host.power_cut()
    host.file("a").unlink()

    assert host.recover().restored == [str(host.file("a"))]
    assert list((host.path / "journals").rglob("held.journal")) == []


def test_a_replaced_file_is_not_taken_for_a_torn_one(host):
    worker, runner = host.journal("worker"), host.journal("runner")
    commit(worker, b"old", host.put("a"))
    commit(runner, b"new", Gone(str(host.file("a"))), host.put("a"))
    runner.close()
    host.journals.remove(runner)
    host.power_cut()

    report = host.recover()

    assert host.mail() == {"a": b"new"}
    assert report.rewritten == []


def test_a_commit_that_failed_is_not_brought_back(host):
    worker = host.journal("worker")
    elsewhere = str(host.path / "missing" / "a")
    with pytest.raises(FileNotFoundError):
        commit(worker, b"a", Put(str(host.path / "mail/tmp/a"), elsewhere))
    commit(worker, b"b", host.put("b"))
    host.power_cut()
    host.file("b").unlink()

    assert host.recover().restored == [str(host.file("b"))]
    assert not os.path.exists(elsewhere)


@pytest.mark.parametrize("left", [b"head\n", b"head\n7 :a\n", b"head\n7 :a\n8 ", b"head\n7 :a\n8 :b\n9 :c\n"])
def test_lines_are_added_once_after_whatever_is_left_of_the_file(host, left):
    worker = host.journal("worker")
    path = host.path / "uidlist"
    path.write_bytes(b"head\n")
    for line in (b"7 :a\n", b"8 :b\n"):
        commit(worker, None, Append(str(path), line))
    assert path.read_bytes() == b"head\n7 :a\n8 :b\n"
    host.power_cut()
    path.write_bytes(left)

    host.recover()

    assert path.read_bytes() == (left if left.endswith(b"9 :c\n") else b"head\n7 :a\n8 :b\n")


def test_a_file_that_was_put_and_then_grew_is_whole(host):
    worker = host.journal("worker")
    commit(worker, b"head\n", host.put("uidlist"))
    commit(worker, None, Append(str(host.file("uidlist")), b"7 :a\n"))
    host.power_cut()
    with open(host.file("uidlist"), "ab") as file:
        file.write(b"8 :b\n")

    report = host.recover()

    assert host.mail() == {"uidlist": b"head\n7 :a\n8 :b\n"}
    assert (report.rewritten, report.lines) == ([], 0)


def test_recovery_that_fails_leaves_the_journal_as_it_was(host):
    commit(host.journal("worker"), b"a", host.put("a"))
    host.power_cut()
    shutil.rmtree(host.path / "mail")
    (host.path / "mail").write_bytes(b"not a directory")

    with pytest.raises(OSError):
        host.recover()
    (host.path / "mail").unlink()

    assert host.recover().restored == [str(host.file("a"))]
    assert host.recover().records == 0


def test_recovery_cut_short_after_any_file_is_finished_by_the_next(host):
    worker = host.journal("worker")
    for number in range(5):
        commit(worker, str(number).encode(), host.put(str(number), links=(str(host.file(f"{number}b")),)))
    before = host.mail()
    host.power_cut()
    shutil.rmtree(host.path / "mail")

    for survived in range(10):
        calls = iter(range(survived))

        def find(path, calls=calls):
            if next(calls, None) is None:
                raise OSError("power cut")
            return host.find(path)

        with pytest.raises(OSError, match="power cut"):
            recover(str(host.path / "journals"), find, boot_id_path=str(host.boot))
    host.recover()

    assert host.mail() == before


def test_an_unknown_header_is_reported_and_skipped(host):
    host.journal("worker").close()
    host.journals.clear()
    path = next((host.path / "journals").rglob("*.segment"))
    path.write_bytes(b"\0" * SEGMENT)

    assert host.recover().unreadable == [str(path)]


def write_segment(journal, entries, *, epoch, boot="boot-0", stale=b""):
    """A segment as the journal writes it, record by record; returns it and where each record ends."""
    header, seed = layout.encode_header(boot, epoch)
    data, ends = bytearray(header), []
    for stamp, (operations, content) in enumerate(entries, 1):
        meta = layout.encode_meta(stamp, operations)
        used = layout.OVERHEAD + len(meta) + len(content)
        data += layout.encode_record(seed, meta, content, used) + content
        ends.append(len(data))
    data += stale[len(data) :]
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "00000001.segment").write_bytes(data)
    return bytes(data), ends


@given(
    bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    length=st.integers(0, 1500),
    junk=st.binary(max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_a_journal_torn_at_any_byte_gives_exactly_the_entries_before(tmp_path_factory, bodies, length, junk):
    host = Host(tmp_path_factory.mktemp("host"))
    journal = host.path / "journals/worker"
    entries = [([host.put(str(number))], body) for number, body in enumerate(bodies)]
    whole, ends = write_segment(journal, entries, epoch=2)
    torn = whole[: layout.BLOCK + length] + junk
    (journal / "00000001.segment").write_bytes(torn)
    host.boot.write_text("next\n")

    host.recover()

    kept = sum(torn[:end] == whole[:end] for end in ends)
    assert host.mail() == {str(number): body for number, body in enumerate(bodies[:kept])}


@given(position=st.integers(layout.BLOCK, layout.BLOCK + 500), bit=st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_a_flipped_bit_never_gives_wrong_mail(tmp_path_factory, position, bit):
    host = Host(tmp_path_factory.mktemp("host"))
    bodies = [b"first" * 5, b"second" * 5, b"third" * 5]
    entries = [([host.put(str(number))], body) for number, body in enumerate(bodies)]
    whole, ends = write_segment(host.path / "journals/worker", entries, epoch=1)
    data = bytearray(whole)
    position = min(position, len(data) - 1)
    data[position] ^= 1 << bit
    (host.path / "journals/worker/00000001.segment").write_bytes(data)
    host.boot.write_text("next\n")

    host.recover()

    kept = sum(end <= position for end in ends)
    assert host.mail() == {str(number): body for number, body in enumerate(bodies[:kept])}


def test_records_of_an_earlier_use_of_the_segment_are_never_replayed(host):
    """Same journal, same boot, same lengths: only the epoch tells them apart."""
    journal = host.path / "journals/worker"
    old = [([host.put(f"old{number}")], b"x" * 30) for number in range(4)]
    stale, _ = write_segment(journal, old, epoch=1)
    write_segment(journal, [([host.put("new0")], b"y" * 30)], epoch=2, stale=stale)
    host.boot.write_text("next\n")

    host.recover()

    assert host.mail() == {"new0": b"y" * 30}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_power_cuts_under_load_lose_nothing(tmp_path_factory, seed):
    """Whatever was written since the last checkpoint may be missing, empty, short or zeros."""
    host = Host(tmp_path_factory.mktemp("host"))
    chance = random.Random(seed)
    expected: dict[str, bytes] = {}
    for boot in range(2):
        # Large enough that no segment is checkpointed before the cut.
        journals = [host.journal(name, segment_bytes=2 * 1024 * 1024) for name in ("one", "two")]
        checkpointed = set(expected)
        for number in range(chance.randrange(40)):
            name = f"{boot}-{number}"
            body = chance.randbytes(chance.choice((0, 10, 3000, 30_000))).replace(b"\n", b"\r\n")
            commit(chance.choice(journals), body, host.put(name, prefix=b"P\n", lf=True))
            expected[name] = b"P\n" + body.replace(b"\r\n", b"\n")
            if chance.random() < 0.1:
                gone = chance.choice(sorted(expected))
                host.file(gone).unlink()
                commit(chance.choice(journals), None, Gone(str(host.file(gone))))
                del expected[gone]
        host.power_cut()
        for name in sorted(set(expected) - checkpointed):
            damage(host.file(name), chance)
        host.recover()
        assert host.mail() == expected


def damage(path, chance):
    size = path.stat().st_size
    kind = chance.randrange(5)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        os.truncate(path, chance.randrange(size + 1))
    elif kind == 2:
        path.write_bytes(b"\0" * size)
    elif kind == 3:
        path.write_bytes(b"")


def test_the_listing_shows_each_record_on_lines_of_their_own(host):
    worker = host.journal("worker")
    commit(worker, b"abc", host.put("a\nforged"), Append(str(host.path / "list"), b"7 :a\n"))
    commit(worker, None, Gone("/x"))

    listing = subprocess.run(
        [sys.executable, "-m", "posthouse.journal", str(host.path / "journals")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "src"},
    ).stdout.splitlines()

    assert listing[0].endswith("epoch 1")
    assert [line.split()[0] for line in listing[2:4]] == ["put", "Append(path=" + repr(str(host.path / "list")) + ","]
    assert "a\\nforged" in listing[2]
    assert listing[5].strip() == "Gone(path='/x')"
