"""Commits that an event loop makes by itself, while the kernel syncs."""

import asyncio
import errno
import os
import threading

import pytest

from posthouse.journal import loopcommitter
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.journal.kernelsync import KernelSync
from posthouse.journal.operations import Append, Put
from posthouse.journal.recovery import recover

SEGMENT = 256 * 1024


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request):
    """Run a coroutine on a loop of that kind."""
    make = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def on_loop(coroutine):
        with asyncio.Runner(loop_factory=make) as runner:
            return runner.run(coroutine)

    return on_loop


@pytest.fixture
def host(tmp_path):
    for part in ("tmp", "new"):
        (tmp_path / "mail" / part).mkdir(parents=True)
    return tmp_path


def make_journal(host, **options):
    options = {"segment_bytes": SEGMENT, "checkpoint_seconds": 60, **options}
    journal = Journal(str(host / "journals/worker"), **options)
    journal.start()
    return journal


def put(host, name):
    return Put(str(host / "mail/tmp" / name), str(host / "mail/new" / name))


def mail(host):
    return {path.name: path.read_bytes() for path in (host / "mail/new").iterdir()}


class HeldSync(KernelSync):
    """Syncs as the kernel does, but says so only when it is let go; may fail."""

    held = True
    error = None
    started = 0

    def __init__(self, loop, done):
        super().__init__(loop, self._hold)
        self._tell = done
        self._ended = False

    def start(self, fd):
        type(self).started += 1
        super().start(fd)

    def _hold(self, error):
        self._ended = True
        if not self.held:
            self.go()

    def go(self):
        if self._ended:
            self._ended = False
            error, type(self).error = type(self).error, None
            self._tell(error)


def test_nobody_goes_on_before_the_sync_is_over_and_who_comes_meanwhile_shares_the_next(host, run, monkeypatch):
    class Held(HeldSync):
        pass

    made = []
    monkeypatch.setattr(
        loopcommitter.KernelSync, "open", lambda loop, done: made.append(Held(loop, done)) or made[-1]
    )
    journal = make_journal(host)

    async def scenario():
        first = asyncio.create_task(journal.commit(Content.of(b"a"), [put(host, "a")]))
        while not made or not made[0]._ended:
            await asyncio.sleep(0)
        others = [asyncio.create_task(journal.commit(Content.of(b"b"), [put(host, f"b{n}")])) for n in range(5)]
        await asyncio.sleep(0)
        assert (first.done(), mail(host), Held.started) == (False, {}, 1)
        Held.held = False
        made[0].go()
        await asyncio.gather(first, *others)

    run(scenario())
    journal.close()
    assert mail(host) == {"a": b"a"} | {f"b{number}": b"b" for number in range(5)}
    assert Held.started == 2


def test_a_sync_that_fails_fails_its_batch_and_is_taken_back_on_another_segment(host, run, monkeypatch):
    """PostgreSQL's fsync trouble of 2018: after an error the next fsync claims success."""

    class Failing(HeldSync):
        held = False

    monkeypatch.setattr(loopcommitter.KernelSync, "open", Failing)
    journal = make_journal(host)

    async def scenario():
        await journal.commit(Content.of(b"x"), [put(host, "before")])
        Failing.error = OSError(errno.EIO, "Input/output error")
        with pytest.raises(OSError, match="Input/output"):
            await journal.commit(Content.of(b"x"), [put(host, "failed")])
        Failing.error = OSError(errno.EIO, "Input/output error")
        with pytest.raises(OSError, match="Input/output"):
            await journal.commit(None, [])
        await journal.commit(Content.of(b"x"), [put(host, "after")])

    run(scenario())
    journal.close()
    assert sorted(mail(host)) == ["after", "before"]
    assert recover(str(host / "journals")).records == 0


def test_of_many_commits_at_once_only_the_bad_ones_fail_and_leave_nothing(host, run):
    journal = make_journal(host)
    (host / "list").write_bytes(b"")

    async def scenario():
        def operations(number):
            place = put(host, str(number)) if number % 3 else Put(f"{host}/nowhere/t", f"{host}/nowhere/n")
            return [place, Append(str(host / "list"), f"{number}\n".encode())]

        commits = (journal.commit(Content.of(b"x"), operations(number)) for number in range(600))
        return await asyncio.gather(*commits, return_exceptions=True)

    results = run(scenario())
    journal.close()

    assert [isinstance(result, FileNotFoundError) for result in results] == [number % 3 == 0 for number in range(600)]
    good = {str(number) for number in range(600) if number % 3}
    assert set(mail(host)) == good
    assert set((host / "list").read_text().split()) == good


def test_loops_and_threads_commit_at_once_over_many_segments(host, run):
    journal = make_journal(host, checkpoint_seconds=0.01)
    bodies = {f"{who}{number}": os.urandom(3000) for who in "ct" for number in range(300)}

    def in_a_thread():
        for number in range(300):
            journal.commit_blocking(Content.of(bodies[f"t{number}"]), [put(host, f"t{number}")])

    async def scenario():
        names = [f"c{number}" for number in range(300)]
        await asyncio.gather(*(journal.commit(Content.of(bodies[name]), [put(host, name)]) for name in names))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    run(scenario())
    thread.join()
    journal.close()

    assert mail(host) == bodies
    assert recover(str(host / "journals")).records == 0


def test_close_finishes_what_waits_without_the_loop(host, run):
    journal = make_journal(host, segments=3)

    async def scenario():
        bodies = [os.urandom(60_000) for _ in range(40)]  # four a segment
        commits = [
            asyncio.ensure_future(journal.commit(Content.of(body), [put(host, str(number))]))
            for number, body in enumerate(bodies)
        ]
        await asyncio.sleep(0)
        journal.close()
        await asyncio.gather(*commits)
        with pytest.raises(OSError, match="closed"):
            await journal.commit(None, [])

    run(scenario())
    assert len(mail(host)) == 40
    assert recover(str(host / "journals")).records == 0


def test_a_journal_outlives_a_loop(host, run):
    journal = make_journal(host)
    for name in "ab":
        run(journal.commit(Content.of(b"x"), [put(host, name)]))
    journal.close()
    assert sorted(mail(host)) == ["a", "b"]


def test_without_the_kernels_help_a_thread_does_it(host, run, monkeypatch):
    monkeypatch.setattr("posthouse.journal.kernelsync.NUMBERS", {})
    journal = make_journal(host)

    async def scenario():
        await asyncio.gather(*(journal.commit(Content.of(b"x"), [put(host, str(number))]) for number in range(50)))

    run(scenario())
    journal.close()
    assert len(mail(host)) == 50


def test_a_full_journal_holds_up_no_loop(host, run, monkeypatch):
    """All segments wait for their checkpoint: mail waits, everything else goes on."""
    from posthouse.journal import checkpoint

    may_go_on = threading.Event()
    monkeypatch.setattr(checkpoint, "sync_file_systems", lambda directories: may_go_on.wait())
    journal = make_journal(host, segments=3)

    async def scenario():
        for number in range(12):
            await journal.commit(Content.of(os.urandom(60_000)), [put(host, str(number))])
        last = asyncio.create_task(journal.commit(Content.of(os.urandom(60_000)), [put(host, "last")]))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not last.done()
        may_go_on.set()
        await last

    run(scenario())
    journal.close()
    assert len(mail(host)) == 13


def test_the_kernel_says_what_failed(run):
    async def scenario():
        told = asyncio.get_running_loop().create_future()
        sync = KernelSync.open(asyncio.get_running_loop(), told.set_result)
        if sync is None:
            pytest.skip("this kernel has no asynchronous sync")
        reading, writing = os.pipe()
        try:
            sync.start(reading)  # a pipe can't be synced
            error = await told
        except OSError as failure:
            error = failure
        finally:
            os.close(reading)
            os.close(writing)
            sync.close()
        return error

    assert run(scenario()).errno == errno.EINVAL
