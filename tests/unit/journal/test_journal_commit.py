"""The journal: durable, in place, all or nothing."""

import asyncio
import ctypes
import errno
import os
import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from posthouse.journal.content import Content
from posthouse.journal.journal import Journal, NotRecovered
from posthouse.journal.operations import Append, Gone, Put
from posthouse.journal.recovery import recover

SEGMENT = 256 * 1024


def make_journal(tmp_path, name="worker", **options):
    for directory in ("mail/tmp", "mail/new", "mail2/tmp", "mail2/new"):
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    journal = Journal(
        str(tmp_path / "journals" / name), **{"segment_bytes": SEGMENT, "checkpoint_seconds": 60, **options}
    )
    journal.start()
    return journal


def put(tmp_path, name, mail="mail", **options):
    return Put(str(tmp_path / mail / "tmp" / name), str(tmp_path / mail / "new" / name), **options)


def files_in(tmp_path):
    return sorted(
        str(path.relative_to(tmp_path))
        for mail in ("mail", "mail2")
        for path in (tmp_path / mail).rglob("*")
        if path.is_file()
    )


@pytest.fixture(params=["journal", "fsync"])
def journal(tmp_path, request):
    journal = make_journal(tmp_path, durability=request.param)
    yield journal
    journal.close()


def test_a_commit_puts_the_file_in_place_with_prefix_mode_and_time(journal, tmp_path):
    message = put(tmp_path, "a", prefix=b"Received: x\n", lf=True, mode=0o640, mtime=1_000_000_000.5)

    journal.commit_blocking(Content.of(b"Subject: a\r\n\r\nbody\r\n"), [message])

    path = tmp_path / "mail/new/a"
    assert path.read_bytes() == b"Received: x\nSubject: a\n\nbody\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.stat().st_mtime == 1_000_000_000.5
    assert files_in(tmp_path) == ["mail/new/a"]


def test_links_are_the_same_file(journal, tmp_path):
    other = str(tmp_path / "mail2/new/a")

    journal.commit_blocking(Content.of(b"x\r\n"), [put(tmp_path, "a", links=(other,))])

    assert os.path.samefile(other, tmp_path / "mail/new/a")


def test_one_commit_may_put_in_two_places_and_append(journal, tmp_path):
    (tmp_path / "list").write_bytes(b"one\n")

    journal.commit_blocking(
        Content.of(b"x\r\n"),
        [put(tmp_path, "a", lf=True), put(tmp_path, "b", mail="mail2"), Append(str(tmp_path / "list"), b"two\n")],
    )

    assert (tmp_path / "mail/new/a").read_bytes() == b"x\n"
    assert (tmp_path / "mail2/new/b").read_bytes() == b"x\r\n"
    assert (tmp_path / "list").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("obstacle", ["directory is missing", "link exists"])
def test_a_commit_that_fails_leaves_nothing_and_the_others_go_on(journal, tmp_path, obstacle):
    (tmp_path / "list").write_bytes(b"one\n")
    (tmp_path / "mail2/new/taken").write_bytes(b"mine")
    if obstacle == "directory is missing":
        bad = Put(str(tmp_path / "mail2/tmp/b"), str(tmp_path / "nowhere/b"))
    else:
        bad = put(tmp_path, "b", mail="mail2", links=(str(tmp_path / "mail2/new/taken"),))

    with pytest.raises(OSError):
        journal.commit_blocking(
            Content.of(b"x\r\n"), [put(tmp_path, "a"), bad, Append(str(tmp_path / "list"), b"two\n")]
        )
    journal.commit_blocking(Content.of(b"y\r\n"), [put(tmp_path, "c")])

    assert files_in(tmp_path) == ["mail/new/c", "mail2/new/taken"]
    assert (tmp_path / "mail2/new/taken").read_bytes() == b"mine"
    assert (tmp_path / "list").read_bytes() == b"one\n"


def test_of_many_commits_at_once_only_the_bad_ones_fail(journal, tmp_path):
    async def commits():
        return await asyncio.gather(
            *(
                journal.commit(
                    Content.of(b"x"), [put(tmp_path, str(number), mail="mail" if number % 3 else "nowhere")]
                )
                for number in range(60)
            ),
            return_exceptions=True,
        )

    results = asyncio.run(commits())

    assert [isinstance(result, FileNotFoundError) for result in results] == [number % 3 == 0 for number in range(60)]
    assert files_in(tmp_path) == sorted(f"mail/new/{number}" for number in range(60) if number % 3)


def test_a_full_disk_fails_the_commit_and_leaves_nothing(tmp_path):
    """A file size limit stands for the full disk: the write is cut short first, then refused."""
    journal = make_journal(tmp_path)
    journal.commit_blocking(None, [])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT, hard))
    try:
        with pytest.raises(OSError) as failure:
            journal.commit_blocking(Content.of(b"x" * (SEGMENT + 1)), [put(tmp_path, "large")])
        journal.commit_blocking(Content.of(b"y"), [put(tmp_path, "small")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        journal.close()
    assert failure.value.errno == errno.EFBIG
    assert files_in(tmp_path) == ["mail/new/small"]


def test_a_journal_that_cannot_be_written_fails_every_commit_until_it_can(tmp_path):
    journal = make_journal(tmp_path, segments=3)
    journal.commit_blocking(Content.of(b"x"), [put(tmp_path, "first")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the header's block only: no record, no new segment
    try:
        for name in "ab":
            with pytest.raises(OSError):
                journal.commit_blocking(Content.of(b"x"), [put(tmp_path, name)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.commit_blocking(Content.of(b"x"), [put(tmp_path, "after")])
    journal.close()
    assert files_in(tmp_path) == ["mail/new/after", "mail/new/first"]


def test_a_segment_whose_sync_failed_is_used_no_more(tmp_path, monkeypatch):
    """PostgreSQL's fsync trouble of 2018: after an error the next fsync claims success."""
    journal = make_journal(tmp_path)
    journal.commit_blocking(Content.of(b"x"), [put(tmp_path, "before")])
    fdatasync = os.fdatasync
    to_fail = [True]
    failed = []

    def failing(fd):
        if to_fail and threading.current_thread().name == "journal-committer":
            to_fail.pop()
            failed.append(os.readlink(f"/proc/self/fd/{fd}"))
            raise OSError(errno.EIO, "Input/output error")
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(OSError):
        journal.commit_blocking(Content.of(b"x"), [put(tmp_path, "failed")])
    to_fail.append(True)
    with pytest.raises(OSError):
        journal.commit_blocking(None, [])
    journal.commit_blocking(Content.of(b"x"), [put(tmp_path, "after")])
    journal.close()

    assert files_in(tmp_path) == ["mail/new/after", "mail/new/before"]
    assert len(set(failed)) == 2
    assert not any(map(os.path.exists, failed))


def test_no_waiter_is_released_before_the_sync_of_its_record_returned(tmp_path, monkeypatch):
    journal = make_journal(tmp_path)
    fdatasync = os.fdatasync
    is_syncing, may_return = threading.Event(), threading.Event()

    def held_back(fd):
        is_syncing.set()
        may_return.wait()
        fdatasync(fd)

    journal.commit_blocking(None, [])
    monkeypatch.setattr(os, "fdatasync", held_back)
    with ThreadPoolExecutor(1) as threads:
        commit = threads.submit(journal.commit_blocking, Content.of(b"x"), [put(tmp_path, "a")])
        is_syncing.wait()
        assert not commit.done()
        assert files_in(tmp_path) == []
        may_return.set()
        commit.result()
    assert files_in(tmp_path) == ["mail/new/a"]
    journal.close()


def test_many_coroutines_and_threads_commit_at_once_over_many_segments(tmp_path):
    journal = make_journal(tmp_path, checkpoint_seconds=0.01)
    bodies = {f"{who}{number}": os.urandom(3000) for who in "ct" for number in range(300)}

    def in_a_thread(name):
        journal.commit_blocking(Content.of(bodies[name]), [put(tmp_path, name)])

    async def in_coroutines():
        await asyncio.gather(
            *(
                journal.commit(Content.of(bodies[f"c{number}"]), [put(tmp_path, f"c{number}")])
                for number in range(300)
            )
        )

    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(in_a_thread, f"t{number}") for number in range(300)]
        asyncio.run(in_coroutines())
        for one in done:
            one.result()
    journal.close()

    assert {path.name: path.read_bytes() for path in (tmp_path / "mail/new").iterdir()} == bodies
    assert len(list((tmp_path / "journals/worker").glob("*.segment"))) <= 8


@pytest.mark.parametrize("lf", [True, False])
def test_large_content_is_streamed_to_its_file(journal, tmp_path, lf):
    data = b"line with its end\r\n" * 100_000
    content = Content(str(tmp_path), memory_limit=1000)
    for start in range(0, len(data), 65_537):
        content.write(data[start : start + 65_537])
    content.finish()
    message = put(tmp_path, "a", prefix=b"P\n", lf=lf, links=(str(tmp_path / "mail2/new/b"),))

    asyncio.run(journal.commit(content, [message]))
    content.close()

    expected = b"P\n" + (data.replace(b"\r\n", b"\n") if lf else data)
    assert (tmp_path / "mail/new/a").read_bytes() == expected
    assert os.path.samefile(tmp_path / "mail/new/a", tmp_path / "mail2/new/b")


def test_a_cancelled_large_commit_is_over_before_its_content_is_closed(tmp_path, monkeypatch):
    """A descriptor that is closed and used again while a thread reads it would mix two people's mail."""
    journal = make_journal(tmp_path, durability="fsync")
    fsync = os.fsync
    is_syncing, may_return = threading.Event(), threading.Event()

    def held_back(fd):
        is_syncing.set()
        may_return.wait()
        fsync(fd)

    async def cancelled():
        commit = asyncio.create_task(journal.commit(Content.of(b"x"), [put(tmp_path, "a")]))
        await asyncio.to_thread(is_syncing.wait)
        for _ in range(2):
            commit.cancel()
            await asyncio.sleep(0)
            assert not commit.done()
        may_return.set()
        with pytest.raises(asyncio.CancelledError):
            await commit

    monkeypatch.setattr(os, "fsync", held_back)
    asyncio.run(cancelled())
    journal.close()
    assert files_in(tmp_path) == ["mail/new/a"]


def test_close_finishes_what_was_committed_and_frees_the_segments(tmp_path):
    journal = make_journal(tmp_path)

    async def commit_and_close():
        commits = [
            asyncio.ensure_future(journal.commit(Content.of(b"x"), [put(tmp_path, str(number))]))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        journal.close()
        journal.close()
        await asyncio.gather(*commits)
        with pytest.raises(OSError):
            await journal.commit(None, [])

    asyncio.run(commit_and_close())

    assert len(files_in(tmp_path)) == 50
    report = recover(str(tmp_path / "journals"))
    assert (report.segments, report.records) == (0, 0)


def test_a_slow_checkpoint_stops_commits_only_when_all_segments_are_full(tmp_path, monkeypatch):
    from posthouse.journal import checkpoint

    may_go_on = threading.Event()

    def slow(directories):
        may_go_on.wait()

    monkeypatch.setattr(checkpoint, "sync_file_systems", slow)
    journal = make_journal(tmp_path, segments=3)
    body = os.urandom(60_000)  # four a segment
    for number in range(12):
        journal.commit_blocking(Content.of(body), [put(tmp_path, str(number))])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(journal.commit_blocking, Content.of(body), [put(tmp_path, "last")])
        assert len(list((tmp_path / "journals/worker").glob("*.segment"))) == 3
        assert not waiting.done()
        may_go_on.set()
        waiting.result()
    journal.close()
    assert len(files_in(tmp_path)) == 13


def test_segments_stay_as_they_are_when_the_file_system_cannot_be_synced(tmp_path, monkeypatch):
    from posthouse.journal import checkpoint

    def failing(directories):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint, "sync_file_systems", failing)
    journal = make_journal(tmp_path, segments=2)
    for number in range(8):  # four a segment
        journal.commit_blocking(Content.of(os.urandom(60_000)), [put(tmp_path, str(number))])
    with pytest.raises(OSError, match="no checkpoint"):
        journal.commit_blocking(Content.of(os.urandom(60_000)), [put(tmp_path, "refused")])
    journal.close()
    assert recover(str(tmp_path / "journals")).records == len(files_in(tmp_path)) == 8


def test_a_segment_that_cannot_be_freed_costs_no_mail(tmp_path, monkeypatch):
    journal = make_journal(tmp_path, segments=2)
    journal.commit_blocking(Content.of(b"x"), [put(tmp_path, "first")])

    def failing(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("posthouse.journal.segment.Segment.renew", failing)
    journal.close()
    monkeypatch.undo()

    assert recover(str(tmp_path / "journals")).records == 1
    assert files_in(tmp_path) == ["mail/new/first"]


def test_a_directory_belongs_to_one_journal(tmp_path):
    journal = make_journal(tmp_path)

    with pytest.raises(BlockingIOError):
        make_journal(tmp_path)
    journal.commit_blocking(None, [])
    with pytest.raises(BlockingIOError):
        recover(str(tmp_path / "journals"))
    journal.close()


def test_records_of_another_boot_must_be_recovered_first(tmp_path):
    boot = tmp_path / "boot_id"
    boot.write_text("first\n")
    leave_records(tmp_path, boot)
    boot.write_text("second\n")

    with pytest.raises(NotRecovered):
        make_journal(tmp_path, boot_id_path=str(boot))
    recover(str(tmp_path / "journals"), boot_id_path=str(boot))
    make_journal(tmp_path, boot_id_path=str(boot)).close()


def leave_records(tmp_path, boot):
    """What a process that was killed leaves."""
    journal = make_journal(tmp_path, boot_id_path=str(boot))
    journal.commit_blocking(Content.of(b"x"), [put(tmp_path, "a")])
    shutil.copytree(tmp_path / "journals", tmp_path / "as they were")
    journal.close()
    shutil.rmtree(tmp_path / "journals")
    (tmp_path / "as they were").rename(tmp_path / "journals")


def test_a_restart_in_the_same_boot_syncs_and_frees_what_was_left(tmp_path):
    boot = tmp_path / "boot_id"
    boot.write_text("only\n")
    leave_records(tmp_path, boot)
    (tmp_path / "mail/new/a").unlink()  # read and deleted by its owner

    make_journal(tmp_path, boot_id_path=str(boot)).close()
    boot.write_text("next\n")

    assert recover(str(tmp_path / "journals"), boot_id_path=str(boot)).records == 0
    assert files_in(tmp_path) == []


def test_more_operations_than_a_segment_holds_are_refused(tmp_path):
    journal = make_journal(tmp_path)

    with pytest.raises(OSError) as failure:
        journal.commit_blocking(None, [Append(str(tmp_path / "list"), b"x" * SEGMENT)])
    journal.commit_blocking(None, [Gone("/nowhere")])

    assert failure.value.errno == errno.EMSGSIZE
    journal.close()
    assert not (tmp_path / "list").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_mail_root_that_is_full_refuses_one_message_and_takes_the_next(tmp_path):
    journal = make_journal(tmp_path)
    root = tmp_path / "small"
    root.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(root), b"tmpfs", 0, b"size=64k") != 0:
        journal.close()
        pytest.skip("mounting is not permitted here")
    try:
        (root / "tmp").mkdir()
        (root / "new").mkdir()
        with pytest.raises(OSError) as failure:
            journal.commit_blocking(
                Content.of(b"x" * 65_000), [put(tmp_path, "large", mail="small", prefix=b"y" * 9000)]
            )
        journal.commit_blocking(Content.of(b"x" * 20_000), [put(tmp_path, "small", mail="small")])
        assert [path.name for path in root.rglob("*") if path.is_file()] == ["small"]
        assert failure.value.errno == errno.ENOSPC
    finally:
        journal.close()
        libc.umount(os.fsencode(root))
