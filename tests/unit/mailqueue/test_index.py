"""mailqueue/index.py, on real files."""

import os

import pytest

from posthouse.mailqueue.index import FILE, NEVER, Index, Row


def row(message, destination="smtp:a.example", owner="alice", due=0.0):
    return Row(message, destination, owner, due)


@pytest.fixture
def index(tmp_path):
    index = Index(str(tmp_path))
    index.open()
    yield index
    index.close()


def write(index, *rows):
    index.write({one.message: [other for other in rows if other.message == one.message] for one in rows})


def test_what_is_due_is_taken_once_and_the_next_time_is_known(index):
    write(index, row("m1", due=5), row("m2", due=20), row("m3", due=NEVER))
    assert index.take(10, [], [], 100) == (["m1"], 20)
    assert index.take(10, [], [], 100) == ([], 20)
    assert index.take(20, [], [], 100) == (["m2"], NEVER)


def test_a_message_is_taken_with_all_its_destinations_and_put_back_as_a_whole(index):
    write(index, row("m1"), row("m1", "smtp:b.example"))
    assert index.take(1, [], [], 100)[0] == ["m1"]
    write(index, row("m1", "smtp:b.example", due=7))
    assert index.take(5, [], [], 100) == ([], 7)


def test_no_owner_takes_the_place_of_another_and_what_is_full_is_passed_over(index):
    write(index, *[row(f"a{number:03}", due=number / 1000) for number in range(500)], row("b", owner="bob", due=1))
    names, _ = index.take(2, [], [], 400)
    assert len(names) == 251
    assert "b" in names
    assert index.take(2, [], [("smtp:a.example", "alice")], 400) == ([], NEVER)
    assert index.take(2, ["smtp:a.example"], [], 400) == ([], NEVER)
    assert len(index.take(2, [], [], 400)[0]) == 250


def test_what_was_taken_when_the_runner_was_killed_is_there_again(index, tmp_path):
    write(index, row("m1"))
    assert index.take(1, [], [], 10)[0] == ["m1"]
    again = Index(str(tmp_path))
    again.open()
    assert again.take(1, [], [], 10)[0] == ["m1"]
    again.close()


def test_a_torn_file_is_begun_anew(index, tmp_path):
    write(index, row("m1"))
    index.close()
    (tmp_path / FILE).write_bytes(b"SQLite format 3\0" + b"torn" * 2000)
    index.open()
    assert index.missing(["m1", "m2"]) == ["m1", "m2"]
    write(index, row("m1"))
    assert index.missing(["m1", "m2"]) == ["m2"]


def test_a_file_that_a_power_cut_may_have_left_behind_is_begun_anew(index):
    write(index, row("m1"))
    index._db.execute("UPDATE opened SET boot = 'another'")
    index.open()
    assert index.missing(["m1"]) == ["m1"]


def test_without_a_place_for_the_file_memory_serves(tmp_path):
    index = Index(os.path.join(tmp_path, "nowhere"))
    index.open()
    write(index, row("m1"))
    assert index.take(1, [], [], 10)[0] == ["m1"]
    index.close()
