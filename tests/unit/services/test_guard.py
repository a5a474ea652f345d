"""The guard at the door: what counts, who is shut out, and who isn't. Nothing here waits."""

import asyncio
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from posthouse.base.clock import FakeClock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Guard as Limits
from posthouse.services import guardfile, shutout
from posthouse.services.guard import BELIEVED_SECONDS, MAX_DELAYED, MAX_FACTOR, REPEATED_FACTOR, RETRY_SECONDS, Guard
from posthouse.services.guardfile import DAY, KNOWN_SECONDS, WINDOW_SECONDS, GuardFile

ALICE = "alice@example.test"
EVE = "eve@example.test"
HERE = "192.0.2.1"


class Door:
    """A guard, short ways to try it, and its clock."""

    def __init__(self, tmp_path: Path, clock: FakeClock | None = None, **limits: object) -> None:
        self.path = f"{tmp_path}/guard.db"
        self.clock = clock or FakeClock()
        chosen = {"block_after": 4, "block_seconds": 900, "exempt_networks": ("127.0.0.0/8",)} | limits
        self.guard = Guard(self.path, Limits(**chosen), secret=b"k" * 32, clock=self.clock)  # type: ignore[arg-type]
        self._number = 0

    async def fail(self, address: str = HERE, account: str = ALICE, times: int = 1, password: str = "") -> int:
        factor = 0
        for _ in range(times):
            self._number += 1
            factor = await self.guard.failed(address, account, password or f"wrong{self._number}")
        return factor

    async def is_open(self, address: str = HERE, account: str = ALICE) -> bool:
        try:
            await self.guard.admit(address, account)
        except TryLater:
            return False
        return True

    async def log_in(self, address: str = HERE, account: str = ALICE) -> None:
        await self.guard.admit(address, account)
        self.guard.succeeded(address, account)
        await self.guard.failed("-", "somebody@else.test", None)  # the thread has done what came before


@pytest.fixture
def door(tmp_path: Path):
    return lambda **options: Door(tmp_path, **options)


def run(door: Door, work: Callable[[], Coroutine[object, object, None]]) -> None:
    async def to_the_end() -> None:
        try:
            await work()
        finally:
            await door.guard.close()

    asyncio.run(to_the_end())


def test_refusals_take_longer_and_longer(door):
    it = door(block_after=100)

    async def work() -> None:
        assert [await it.fail() for _ in range(6)] == [1, 2, 4, 8, 16, MAX_FACTOR]
        it.clock.advance(WINDOW_SECONDS + 1)
        assert await it.fail() == 1

    run(it, work)


def test_address_is_shut_out_for_a_while_that_doubles(door, capsys: pytest.CaptureFixture[str]):
    it = door()

    async def work() -> None:
        for seconds in (900, 1800, 3600):
            await it.fail(times=3)
            assert await it.is_open()
            await it.fail()
            assert not await it.is_open()
            assert not await it.is_open(account=EVE)
            assert await it.is_open("192.0.2.2")
            it.clock.advance(seconds - 1)
            assert not await it.is_open()
            it.clock.advance(1)
            assert await it.is_open()
        it.clock.advance(DAY)
        await it.fail(times=4)
        it.clock.advance(900)
        assert await it.is_open(), "a quiet day is forgotten"

    run(it, work)
    assert "".join(capsys.readouterr()).count("guard-blocked") == 4


@pytest.mark.parametrize("jump", [-3 * DAY, -DAY, DAY, 3 * DAY])
def test_a_clock_that_is_set_right_lets_in_who_is_shut_out_and_counts_anew(door, jump: float):
    it = door()

    async def work() -> None:
        await it.fail(times=4)
        assert not await it.is_open()
        it.clock.jump(jump)
        assert await it.is_open()
        await it.fail(times=3)
        assert await it.is_open()
        it.clock.advance(BELIEVED_SECONDS + 1)
        await it.fail()
        assert not await it.is_open()
        it.clock.advance(DAY)
        assert await it.is_open()

    run(it, work)


def test_a_clock_that_is_set_back_by_minutes_makes_a_block_longer_by_no_more(door):
    it = door()

    async def work() -> None:
        it.clock.advance(WINDOW_SECONDS)
        await it.fail(times=4)
        it.clock.jump(-120)
        it.clock.advance(900 + 120)
        assert await it.is_open()

    run(it, work)


def test_block_lasts_a_day_at_most(door):
    it = door(block_seconds=80_000)

    async def work() -> None:
        for _ in range(3):
            await it.fail(times=4)
            it.clock.advance(DAY)
            assert await it.is_open()

    run(it, work)


def test_same_wrong_password_counts_once(door):
    it = door()

    async def work() -> None:
        assert await it.fail(password="old") == 1
        assert [await it.fail(password="old") for _ in range(10)] == [REPEATED_FACTOR] * 10
        assert await it.is_open()
        assert await it.fail(account=EVE, password="old") == 2, "for another account it is a guess"
        await it.fail(times=2)
        assert not await it.is_open()

    run(it, work)


def test_unknown_password_counts_each_time(door):
    it = door()

    async def work() -> None:
        for _ in range(4):
            await it.guard.failed(HERE, ALICE, None)
        assert not await it.is_open()

    run(it, work)


def test_network_is_shut_out_after_more(door):
    it = door()

    async def work() -> None:
        for number in range(7):
            await it.fail(f"192.0.2.{number}", f"user{number}@example.test", times=3)
        assert not await it.is_open("192.0.2.200")
        assert await it.is_open("192.0.3.1")

    run(it, work)


def test_ipv6_host_counts_by_its_64_and_network_by_its_48(door):
    it = door()

    async def work() -> None:
        for number in range(4):
            await it.fail(f"2001:db8:0:1::{number + 1}", f"user{number}@example.test")
        assert not await it.is_open("2001:db8:0:1:ffff::1")
        assert await it.is_open("2001:db8:0:2::1")
        for number in range(6):
            await it.fail(f"2001:db8:0:1{number}::1", f"user{number}@example.test", times=3)
        assert not await it.is_open("2001:db8:0:ffff::1")
        assert await it.is_open("2001:db8:1::1")
        await it.fail("::ffff:198.51.100.1", times=4)
        assert not await it.is_open("198.51.100.1")

    run(it, work)


def test_account_under_attack_stays_open_where_it_has_been(door):
    it = door()

    async def work() -> None:
        await it.log_in("198.51.100.1")
        for number in range(20):
            await it.fail(f"10.{number}.0.1")
        assert not await it.is_open("203.0.113.1")
        assert await it.is_open("203.0.113.1", EVE)
        assert await it.is_open("198.51.100.1")
        assert await it.fail("198.51.100.1") == 1, "nor do others' guesses make its refusals slow"
        assert await it.fail("203.0.113.9", account=EVE) == 1

    run(it, work)


def test_network_under_attack_stays_open_where_an_account_has_been(door):
    it = door()

    async def work() -> None:
        await it.log_in("192.0.2.77")
        for number in range(7):
            await it.fail(f"192.0.2.{number}", f"user{number}@example.test", times=3)
        assert await it.is_open("192.0.2.77")
        assert not await it.is_open("192.0.2.77", EVE)
        it.clock.advance(1)
        await it.fail("192.0.2.77", times=4)
        assert not await it.is_open("192.0.2.77")

    run(it, work)


def test_place_is_forgotten_after_thirty_days(door):
    it = door()

    async def work() -> None:
        await it.log_in("198.51.100.1")
        it.clock.advance(KNOWN_SECONDS + 1)
        for number in range(20):
            await it.fail(f"10.{number}.0.1")
        assert not await it.is_open("198.51.100.1")

    run(it, work)


def test_login_takes_back_its_own_failures_only(door):
    """Who has an account of their own doesn't get more guesses at others' by logging in between."""
    it = door()

    async def work() -> None:
        await it.fail(times=2)
        await it.log_in()
        await it.fail(times=3)
        assert await it.is_open()
        await it.log_in(account=EVE)
        await it.fail()
        assert not await it.is_open()

    run(it, work)
    with closing(GuardFile(it.path)) as file:
        (network,) = [one for one in file.all() if one.kind == "n"]
    assert network.failures == 6


def test_login_does_not_take_back_what_no_longer_counts(door):
    it = door()

    async def work() -> None:
        await it.fail(times=3)
        it.clock.advance(WINDOW_SECONDS + 1)
        await it.fail(account=EVE, times=3)
        await it.log_in()
        await it.fail(account=EVE)
        assert not await it.is_open()

    run(it, work)


def test_exempt_networks_are_neither_shut_out_nor_slowed(door):
    it = door()

    async def work() -> None:
        for address in ("127.0.0.1", "unix", ""):
            assert await it.fail(address, times=30) == 1
            assert await it.is_open(address)
        assert not await it.is_open("203.0.113.1"), "what fails there counts for the account"

    run(it, work)


def test_zero_shuts_nobody_out(door):
    it = door(block_after=0)

    async def work() -> None:
        assert await it.fail(times=200) == MAX_FACTOR
        assert await it.is_open()

    run(it, work)


def test_few_refusals_of_one_address_wait_at_the_same_time(door):
    it = door()

    async def work() -> None:
        waiting = [it.guard.delaying(HERE) for _ in range(MAX_DELAYED)]
        for one in waiting:
            one.__enter__()
        assert not await it.is_open()
        assert await it.is_open("192.0.2.2")
        for one in waiting:
            one.__exit__(None, None, None)
        assert await it.is_open()

    run(it, work)


def test_processes_share_what_they_count(door, tmp_path: Path):
    it = door()
    other = multiprocessing.get_context("spawn").Process(target=_fail_elsewhere, args=(tmp_path, it.clock))

    async def work() -> None:
        await it.fail()
        assert await it.is_open()
        other.start()
        await asyncio.to_thread(other.join)
        assert other.exitcode == 0
        it.clock.advance(BELIEVED_SECONDS)
        assert not await it.is_open()

    run(it, work)


def _fail_elsewhere(tmp_path: Path, clock: FakeClock) -> None:
    it = Door(tmp_path, clock)

    async def work() -> None:
        it._number = 100
        await it.fail(times=3)

    run(it, work)


def test_many_may_open_the_file_at_once_before_there_is_one(tmp_path: Path):
    """SQLite says that it is locked, unasked to wait, when two switch a new file to its write-ahead log."""
    for number in range(5):
        together = threading.Barrier(8)

        def begin(path: str, together: threading.Barrier = together) -> None:
            together.wait()
            GuardFile(path).close()

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(begin, [f"{tmp_path}/{number}.db"] * 8)) == [None] * 8


def test_broken_file_refuses_nobody(door, capsys: pytest.CaptureFixture[str]):
    it = door()
    Path(it.path).write_bytes(b"no database" * 1000)

    async def work() -> None:
        assert [await it.fail() for _ in range(10)] == [1] * 10
        assert await it.is_open()
        it.guard.succeeded(HERE, ALICE)
        Path(it.path).unlink()
        it.clock.advance(RETRY_SECONDS)
        await it.fail(times=4)
        assert not await it.is_open()

    run(it, work)
    assert "".join(capsys.readouterr()).count("guard-unavailable") == 1


def test_locked_file_refuses_nobody(door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guardfile, "_LOCK_SECONDS", 0.0)
    it = door()

    async def work() -> None:
        await it.fail(times=3)
        with closing(sqlite3.connect(it.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await it.fail()
            assert await it.is_open()
            other.execute("ROLLBACK")

    run(it, work)


def test_rows_are_bounded_and_who_is_shut_out_goes_last(door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guardfile, "MAX_ROWS", 100)
    monkeypatch.setattr(guardfile, "_TIDY_EVERY", 1)
    it = door()

    async def work() -> None:
        await it.fail(times=4)
        for number in range(100):
            it.clock.advance(1)
            await it.fail("127.0.0.1", f"user{number}@example.test")
        assert not await it.is_open()

    run(it, work)
    with closing(sqlite3.connect(it.path)) as database:
        ((rows,),) = database.execute("SELECT count(*) FROM counters")
    assert 80 < rows <= 100


def test_places_of_an_account_are_bounded(tmp_path: Path):
    with closing(GuardFile(f"{tmp_path}/guard.db")) as file:
        for number in range(guardfile.MAX_KNOWN_PLACES + 5):
            file.know(ALICE, f"192.0.2.{number}", 1000.0 + number)
        assert not file.is_known(ALICE, "192.0.2.4", 2000.0)
        assert file.is_known(ALICE, "192.0.2.5", 2000.0)


def test_places_are_bounded_all_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guardfile, "MAX_KNOWN_ROWS", 10)
    monkeypatch.setattr(guardfile, "_TIDY_EVERY", 1)
    with closing(GuardFile(f"{tmp_path}/guard.db")) as file:
        for number in range(15):
            file.know(f"user{number}@example.test", HERE, 1000.0 + number)
        known = [file.is_known(f"user{number}@example.test", HERE, 2000.0) for number in range(15)]
    assert known == [False] * 5 + [True] * 10


def test_login_of_any_length_and_octets_is_counted(door):
    it = door()

    async def work() -> None:
        for login in ("x" * 100_000, "\udcff\0 \n", ""):
            await it.fail(account=login)
            assert await it.is_open(account=login)
        await it.fail(account="\udcff")
        assert not await it.is_open(account="x" * 100_000)

    run(it, work)
    assert Path(it.path).stat().st_size < 100_000


def test_file_has_no_password_and_is_for_its_owner(door):
    it = door()

    async def work() -> None:
        await it.fail(password="hunter2")

    run(it, work)
    assert b"hunter2" not in Path(it.path).read_bytes()
    assert Path(it.path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("target", "opened"),
    [
        (HERE, {HERE}),
        ("192.0.2.0/24", {HERE, "192.0.2.2"}),
        ("192.0.0.0/8", {HERE, "192.0.2.2"}),
        ("2001:db8::5", {"2001:db8::1"}),
        (None, {HERE, "192.0.2.2", "2001:db8::1"}),
        ("Alice@Example.Test", set()),
    ],
)
def test_operator_lets_in_again_who_is_named(door, target: str | None, opened: set[str]):
    it = door()
    places = (HERE, "192.0.2.2", "2001:db8::1")

    async def work() -> None:
        for place in places:
            await it.fail(place, times=4)
        now = it.clock.now().timestamp()
        assert [one.kind for one in shutout.listing(it.path, now)][:3] == ["a", "a", "a"]
        assert shutout.clear(it.path, target) or target is None
        assert {place for place in places if await it.is_open(place)} == opened

    run(it, work)


def test_account_is_let_in_again(door):
    it = door()

    async def work() -> None:
        for number in range(20):
            await it.fail(f"10.{number}.0.1")
        assert not await it.is_open()
        assert [one.name for one in shutout.clear(it.path, ALICE)] == [ALICE]
        assert await it.is_open()

    run(it, work)


def test_what_no_longer_counts_is_not_listed(door):
    it = door()

    async def work() -> None:
        await it.fail()

    run(it, work)
    now = it.clock.now().timestamp()
    assert [(one.kind, one.name, one.failures) for one in shutout.listing(it.path, now)] == [
        ("a", HERE, 1),
        ("n", "192.0.2.0/24", 1),
        ("u", ALICE, 1),
    ]
    assert shutout.listing(it.path, now + WINDOW_SECONDS + 1) == []


def test_network_that_is_shut_out_is_found_for_an_address(door):
    it = door()

    async def work() -> None:
        for number in range(7):
            await it.fail(f"192.0.2.{number}", f"user{number}@example.test", times=3)

    run(it, work)
    now = it.clock.now().timestamp()
    assert [one.name for one in shutout.containing(it.path, "192.0.2.9", now)] == ["192.0.2.0/24"]
    assert shutout.containing(it.path, "192.0.3.9", now) == []
    assert shutout.containing(it.path, ALICE, now) == []
