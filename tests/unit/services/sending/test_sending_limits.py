"""How much may be sent: the arithmetic, and the file that all processes count in."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.clock import FakeClock
from posthouse.config.submission import Limits, Submission
from posthouse.directory.model import SendingLimits
from posthouse.services.sending import usagefile
from posthouse.services.sending.limits import Amount, Bound, Usage, added, bounds, current, excess
from posthouse.services.sharedfile import SharedFile, open_file, transaction

NOW = 1_800_000_000.0
BOB = "bob@a.test"


def test_a_login_has_its_own_limits_then_its_domains_then_the_configurations():
    settings = Submission(account=Limits(messages_per_hour=10, bytes_per_day=5), domain=Limits(messages_per_day=100))
    own, each = SendingLimits(messages_per_hour=0), SendingLimits(messages_per_hour=7, recipients_per_day=8)
    login, domain = bounds("Bob@A.test", (own, each, SendingLimits(over_limit="hold")), settings)
    assert login == Bound(BOB, Amount(), Amount(recipients=8, bytes=5))
    assert domain == Bound("a.test", Amount(), Amount(messages=100), holds=True)
    assert bounds("x@a.test", (SendingLimits(), each, SendingLimits()), settings)[0].hour == Amount(messages=7)
    nothing = (SendingLimits(), SendingLimits(), SendingLimits())
    assert not any(bound.is_limited for bound in bounds(BOB, nothing, Submission()))


def test_an_hour_and_a_day_begin_with_the_first_message_and_end_by_themselves():
    usage = added(Usage(), Amount(1, 2, 3, 1), NOW)
    usage = added(usage, Amount(1, 1, 1, 0), NOW + 3599)
    assert (usage.hour.since, usage.hour.used) == (NOW, Amount(2, 3, 4, 1))
    later = added(usage, Amount(1, 1, 1, 0), NOW + 3600)
    assert (later.hour.since, later.hour.used, later.day.used) == (NOW + 3600, Amount(1, 1, 1, 0), Amount(3, 4, 5, 1))
    assert current(later, NOW + 90_000) == Usage()
    assert current(later, NOW - 5) == Usage()  # the clock was wrong


def test_the_limit_that_lasts_longest_is_what_is_told():
    bound = Bound(BOB, Amount(messages=2), Amount(messages=3, bytes=10))
    usage = added(Usage(), Amount(3, 3, 3), NOW)
    found = excess(bound, usage, Amount(1, 1, 1), NOW + 10)
    assert (found.kind, found.span, found.used, found.most, found.until) == ("messages", "day", 3, 3, NOW + 86_400)
    assert excess(bound, usage, Amount(1, 1, 1), NOW + 10, factor=10) is None
    assert excess(Bound(BOB), usage, Amount(10**9, 10**9, 10**12), NOW) is None


AMOUNTS = st.builds(Amount, st.just(1), st.integers(1, 50), st.integers(0, 1000))


@given(st.lists(st.tuples(AMOUNTS, st.integers(0, 4000)), max_size=30), st.integers(1, 5), st.integers(1, 2000))
def test_what_passes_never_comes_to_more_than_the_limit(messages, most, most_bytes):
    bound = Bound(BOB, Amount(messages=most, bytes=most_bytes), Amount(recipients=100))
    usage, now = Usage(), NOW
    for amount, wait in messages:
        now += wait
        if excess(bound, usage, amount, now) is None:
            usage = added(usage, amount, now)
        assert usage.hour.used.messages <= most
        assert usage.hour.used.bytes <= most_bytes
        assert usage.day.used.recipients <= 100
        less = added(added(usage, amount, now), amount, now, sign=-1)
        assert less.hour.used == current(usage, now).hour.used


def opened(path) -> sqlite3.Connection:
    return open_file(str(path), usagefile.SCHEMA)


def test_what_several_take_at_once_is_never_more_than_there_is(tmp_path):
    """Each thread is a process of its own as far as SQLite goes: a connection for each."""
    bound = Bound(BOB, Amount(messages=25))
    opened(tmp_path / "sending.db").close()

    def send(number: int) -> int:
        file, taken = opened(tmp_path / "sending.db"), 0
        for each in range(20):
            key = usagefile.key(BOB, f"{number}.{each}@x.test")
            got = transaction(file, lambda f, key=key: usagefile.take(f, [bound], Amount(1, 1, 10), [key], NOW))
            taken += got.refused is None
        file.close()
        return taken

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(send, range(4))) == 25
    file = opened(tmp_path / "sending.db")
    assert usagefile.all_usage(file, NOW) == [(BOB, added(Usage(), Amount(25, 25, 250, 25), NOW))]
    file.close()


def test_first_time_recipients_are_counted_once_for_each_login_and_given_back(tmp_path):
    file = opened(tmp_path / "sending.db")
    bound = Bound(BOB, Amount(new_recipients=2))
    keys = [usagefile.key(BOB, address) for address in ("A@x.test", "a@x.test", "b@x.test")]
    first = usagefile.take(file, [bound], Amount(1, 3, 5), keys, NOW)
    assert (first.amount, first.refused) == (Amount(1, 3, 5, 2), None)
    assert usagefile.take(file, [bound], Amount(1, 3, 5), keys, NOW).amount == Amount(1, 3, 5, 0)
    other = [usagefile.key(BOB, "c@x.test")]
    over = usagefile.take(file, [bound], Amount(1, 1, 5), other, NOW)
    assert (over.refused.kind, over.is_news) == ("new_recipients", True)
    assert not usagefile.take(file, [bound], Amount(1, 1, 5), other, NOW + 100).is_news
    assert usagefile.take(file, [bound], Amount(1, 1, 5), other, NOW + 3600).refused is None
    assert usagefile.key("eve@a.test", "c@x.test") != other[0]
    usagefile.give_back(file, [bound], first, NOW + 3601)
    assert usagefile.is_new(file, keys[0])
    file.close()


def test_what_is_held_is_held_ten_times_the_limit_and_then_refused(tmp_path):
    file = opened(tmp_path / "sending.db")
    bound = Bound(BOB, Amount(messages=2), holds=True)
    taken = [usagefile.take(file, [bound], Amount(1, 1, 1), [], NOW) for _ in range(21)]
    assert [bool(one.held) for one in taken] == [False] * 2 + [True] * 18 + [False]
    assert [one.is_news for one in taken].index(True) == 2
    assert sum(one.is_news for one in taken) == 1
    assert taken[-1].refused is not None
    file.close()


def test_the_file_is_bounded_and_forgets_what_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(usagefile, "MAX_KNOWN", 10)
    file = opened(tmp_path / "sending.db")
    bound = Bound(BOB, Amount(messages=100))
    for number in range(30):
        usagefile.take(file, [bound], Amount(1, 1, 1), [usagefile.key(BOB, f"{number}@x")], NOW + number)
    usagefile.tidy(file, NOW + 30)
    assert file.execute("SELECT count(*) FROM known").fetchone() == (9,)
    usagefile.tidy(file, NOW + 500 * 86_400)
    assert [file.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("known", "used")] == [(0,), (0,)]
    file.close()


def test_a_file_that_is_broken_stops_nobody_and_is_tried_again_after_a_minute(tmp_path):
    (tmp_path / "sending.db").write_bytes(b"this is no database, however long it may be" * 100)

    async def scenario():
        clock = FakeClock()
        shared = SharedFile(str(tmp_path / "sending.db"), usagefile.SCHEMA, consequence="none", clock=clock)
        assert await shared.run(lambda file: usagefile.usage(file, BOB, NOW), otherwise=None) is None
        (tmp_path / "sending.db").unlink()
        assert await shared.run(lambda file: usagefile.usage(file, BOB, NOW), otherwise=None) is None
        clock.advance(61)
        assert await shared.run(lambda file: usagefile.usage(file, BOB, NOW), otherwise=None) == Usage()
        await shared.close()

    asyncio.run(scenario())


def test_limits_of_the_domain_and_of_the_login_both_count(tmp_path):
    file = opened(tmp_path / "sending.db")
    mine, ours = Bound(BOB, Amount(messages=5)), Bound("a.test", Amount(messages=2))
    eve = replace(mine, name="eve@a.test")
    assert usagefile.take(file, [mine, ours], Amount(1, 1, 1), [], NOW).refused is None
    assert usagefile.take(file, [eve, ours], Amount(1, 1, 1), [], NOW).refused is None
    assert usagefile.take(file, [mine, ours], Amount(1, 1, 1), [], NOW).refused.bound == ours
    assert usagefile.usage(file, BOB, NOW).hour.used.messages == 1
    file.close()
