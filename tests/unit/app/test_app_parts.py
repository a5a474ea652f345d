"""app: what only shows where processes of two generations meet."""

from posthouse.app.parts import start_journal
from posthouse.journal.content import Content
from posthouse.journal.operations import Put
from posthouse.journal.segment import Segment, segment_paths


def commit(journal, path):
    journal.commit_blocking(Content.of(b"mail"), [Put(str(path) + ".tmp", str(path))])


def records(directory):
    return sum(len(opened[1]) for path in segment_paths(str(directory)) if (opened := Segment.open(path)))


def test_a_process_after_a_reload_has_a_journal_beside_the_one_that_drains(tmp_path):
    old = start_journal(tmp_path / "journal", "worker-0", "journal")
    new = start_journal(tmp_path / "journal", "worker-0", "journal")
    try:
        commit(old, tmp_path / "a")
        commit(new, tmp_path / "b")
    finally:
        old.close()
        new.close()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "journal"}


def test_what_a_crash_left_in_the_other_journal_is_made_durable_by_the_next_process(tmp_path):
    """Otherwise a power cut weeks later would bring back mail that was deleted long ago."""
    first = start_journal(tmp_path / "journal", "worker-0", "journal")
    second = start_journal(tmp_path / "journal", "worker-0", "journal")
    commit(second, tmp_path / "a")
    (left,) = [path for path in segment_paths(str(tmp_path / "journal/worker-0.1")) if Segment.open(path)[1]]
    with open(left, "rb") as file:
        crashed = file.read()
    first.close()
    second.close()
    with open(left, "wb") as file:
        file.write(crashed)
    assert records(tmp_path / "journal/worker-0.1") == 1

    start_journal(tmp_path / "journal", "worker-0", "journal").close()

    assert records(tmp_path / "journal/worker-0.1") == 0
