"""runtime/counters.py"""

import os

from posthouse.runtime.counters import SESSIONS, Counters, Counts


def test_what_every_process_counts_is_summed_up():
    counters = Counters(2)
    child = os.fork()
    if not child:
        mine = counters.of_worker(1)
        mine.add("a", 0, 5, window=7)
        mine.add("a", SESSIONS, 2, window=7)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    mine = counters.of_worker(0)
    mine.add("a", 0, 1, window=7)
    mine.add("a", 1, 3, window=7)
    assert mine.total("a", 7) == Counts(6, 3, 0, 2)
    assert mine.total("b", 7) == Counts()


def test_a_new_window_begins_at_nothing_but_for_the_sessions_that_last():
    mine = Counters(1).of_worker(0)
    mine.add("a", 1, 3, window=7)
    mine.add("a", SESSIONS, 1, window=7)
    assert mine.total("a", 8) == Counts(sessions=1)
    mine.add("a", 1, 1, window=8)
    assert mine.total("a", 8) == Counts(messages=1, sessions=1)
    mine.add("a", SESSIONS, -1, window=9)
    assert mine.total("a", 9) == Counts()


def test_a_worker_that_comes_in_anothers_place_begins_empty():
    counters = Counters(2)
    counters.of_worker(1).add("a", SESSIONS, 9, window=1)
    assert counters.of_worker(1).total("a", 1) == Counts()


def test_a_full_place_drives_out_the_oldest_that_is_not_in_use():
    mine = Counters(1, slots=8).of_worker(0)  # one bucket for everybody
    mine.add("busy", SESSIONS, 1, window=1)
    for number in range(20):
        mine.add(f"n{number}", 0, 1, window=2 + number)
    assert mine.total("busy", 1).sessions == 1
    assert mine.total("n19", 21) == Counts(connections=1)
    assert mine.total("n0", 2) == Counts()


def test_where_all_are_in_use_nobody_else_is_counted_and_nothing_breaks():
    mine = Counters(1, slots=8).of_worker(0)
    for number in range(20):
        mine.add(f"n{number}", SESSIONS, 1, window=1)
        mine.add(f"n{number}", SESSIONS, -2, window=1) if number > 9 else None
    assert sum(mine.total(f"n{number}", 1).sessions for number in range(20)) == 8
