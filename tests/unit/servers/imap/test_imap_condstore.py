"""CONDSTORE and QRESYNC as clients see them (RFC 7162)."""

import re

import pytest


def highest(client, mailbox="INBOX") -> int:
    (line,) = client.ok(f"STATUS {mailbox} (HIGHESTMODSEQ)")[-1:]
    return int(re.search(rb"HIGHESTMODSEQ (\d+)", line)[1])


def modseqs(lines) -> dict[int, int]:
    """The modification sequence by sequence number."""
    found = [re.match(rb"\* (\d+) FETCH .*MODSEQ \((\d+)\)", line) for line in lines]
    return {int(match[1]): int(match[2]) for match in found if match}


@pytest.fixture
def filled(client):
    for number in range(1, 6):
        client.append(b"Subject: %d\r\n\r\nbody\r\n" % number)
    return client


@pytest.fixture
def other(live, connect, filled):
    """Another client of the same mailbox, which it has selected."""
    client = connect(live)
    client.ok("SELECT INBOX")
    return client


def test_select_tells_the_highest(filled):
    """RFC 7162 §3.1.2.1."""
    (line,) = [line for line in filled.ok("SELECT INBOX") if b"HIGHESTMODSEQ" in line]
    assert line == b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % highest(filled)


def test_a_client_that_knows_nothing_of_it_hears_nothing_of_it(filled, other):
    filled.ok("SELECT INBOX")
    other.ok("STORE 1 +FLAGS (\\Flagged)")
    assert filled.ok("NOOP") == [b"* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n"]
    assert filled.ok("STORE 2 +FLAGS.SILENT (\\Seen)") == []


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1 (MODSEQ)",
        "FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
        "STORE 1 (UNCHANGEDSINCE 99999999999999) +FLAGS (\\Answered)",
        "SEARCH MODSEQ 1",
        "STATUS INBOX (HIGHESTMODSEQ)",
        "ENABLE CONDSTORE",
    ],
)
def test_each_of_these_shows_that_the_client_knows_it(filled, other, command: str):
    """RFC 7162 §3.1: HIGHESTMODSEQ is told at once, MODSEQ with every change from then on."""
    lines = other.ok(command)
    assert any(line.startswith(b"* OK [HIGHESTMODSEQ ") for line in lines)
    filled.ok("SELECT INBOX")
    filled.ok("STORE 2 +FLAGS (\\Flagged)")
    (line,) = other.ok("NOOP")
    assert re.fullmatch(rb"\* 2 FETCH \(UID 2 FLAGS \(\\Flagged.*\) MODSEQ \(\d+\)\)\r\n", line)


def test_only_what_changed_since_is_fetched(filled):
    """RFC 7162 §3.1.4.1, Example 9."""
    filled.ok("SELECT INBOX (CONDSTORE)")
    before = highest(filled)
    filled.ok("STORE 2,4 +FLAGS (\\Flagged)")
    lines = filled.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before})")
    assert set(modseqs(lines)) == {2, 4}
    assert all(b"UID" in line and b"\\Flagged" in line for line in lines)
    assert set(modseqs(filled.ok(f"FETCH 3:5 (FLAGS) (CHANGEDSINCE {before})"))) == {4}
    assert filled.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {highest(filled)})") == []


def test_a_conditional_store_leaves_alone_what_changed(filled, other):
    """RFC 7162 §3.1.3, Example 5."""
    filled.ok("SELECT INBOX (CONDSTORE)")
    before = highest(filled)
    other.ok("STORE 2 +FLAGS (\\Flagged)")
    lines, tagged = filled.command(f"STORE 1:3 (UNCHANGEDSINCE {before}) +FLAGS.SILENT (\\Deleted)")
    assert tagged.startswith(b"OK [MODIFIED 2]")
    assert set(modseqs(lines)) == {1, 2, 3}
    assert b"FLAGS" not in lines[0]
    (second,) = [line for line in lines if line.startswith(b"* 2 ")]
    assert b"\\Flagged" in second
    assert b"\\Deleted" not in second
    tagged = filled.command("UID STORE 4 (UNCHANGEDSINCE 0) +FLAGS (\\Deleted)")[1]
    assert tagged.startswith(b"OK [MODIFIED 4]")


def test_a_store_says_the_new_modseq_once(filled):
    filled.ok("SELECT INBOX (CONDSTORE)")
    lines = filled.ok("STORE 1 +FLAGS (\\Flagged)")
    assert len(lines) == 1
    assert modseqs(lines) == {1: highest(filled)}
    assert filled.ok("NOOP") == []


def test_a_body_that_is_shown_changes_the_modseq(filled):
    filled.ok("SELECT INBOX (CONDSTORE)")
    before = highest(filled)
    lines = filled.ok("FETCH 1 (BODY[])")
    assert modseqs(lines[-1:])[1] > before
    assert b"\\Seen" in lines[-1]


def test_search_finds_by_modseq_and_says_the_highest(filled):
    """RFC 7162 §3.1.5, Examples 16 and 17."""
    filled.ok("SELECT INBOX (CONDSTORE)")
    before = highest(filled)
    filled.ok("STORE 3 +FLAGS (\\Draft)")
    after = highest(filled)
    for key in (f"MODSEQ {before + 1}", f'MODSEQ "/flags/\\\\draft" all {before + 1}'):
        assert filled.ok(f"SEARCH {key}") == [b"* SEARCH 3 (MODSEQ %d)\r\n" % after]
    assert filled.ok(f"SEARCH OR NOT MODSEQ 1 MODSEQ {after + 1}") == [b"* SEARCH\r\n"]


def test_qresync_has_to_be_enabled(filled):
    """RFC 7162 §3.2.5, §3.2.6."""
    assert filled.refused("SELECT INBOX (QRESYNC (1 1))").startswith(b"BAD")
    filled.ok("SELECT INBOX (CONDSTORE)")
    assert filled.refused("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)").startswith(b"BAD")
    assert filled.refused("FETCH 1:* (FLAGS) (VANISHED)").startswith(b"BAD")


@pytest.fixture
def resyncing(filled):
    """A client that knew the mailbox as it is now, and has left it."""
    assert filled.ok("ENABLE QRESYNC") == [b"* ENABLED QRESYNC\r\n"]
    lines = filled.ok("SELECT INBOX")
    filled.known = tuple(
        int(re.search(rb"\[%b (\d+)" % name, b"".join(lines))[1]) for name in (b"UIDVALIDITY", b"HIGHESTMODSEQ")
    )
    filled.ok("UNSELECT")
    return filled


def test_select_tells_what_was_missed(resyncing, other):
    """RFC 7162 §3.2.5.1."""
    other.ok("STORE 1,5 +FLAGS (\\Answered)")
    other.ok("STORE 2:3 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    other.ok("COPY 1 INBOX")
    uidvalidity, modseq = resyncing.known
    lines = resyncing.ok(f"SELECT INBOX (QRESYNC ({uidvalidity} {modseq} 1:5 (1:5 1:5)))")
    assert b"* VANISHED (EARLIER) 2:3\r\n" in lines
    assert set(modseqs(lines)) == {1, 3}  # UIDs 1 and 5: the new one is not among those it asks about
    lines = resyncing.ok(f"SELECT INBOX (QRESYNC ({uidvalidity} {modseq}))")
    assert lines[0].startswith(b"* OK [CLOSED] ")
    assert set(modseqs(lines)) == {1, 3, 4}


def test_another_uidvalidity_tells_nothing(resyncing):
    lines = resyncing.ok(f"SELECT INBOX (QRESYNC ({resyncing.known[0] - 1} 1))")
    assert not [line for line in lines if b"VANISHED" in line or b"FETCH" in line]


def test_a_fetch_tells_what_vanished_even_behind_the_last_message(resyncing, other):
    """RFC 7162 §3.2.6: ``*`` is as high as UIDs have been given."""
    uidvalidity, modseq = resyncing.known
    other.ok("STORE 4:5 +FLAGS (\\Deleted)")
    other.ok("EXPUNGE")
    resyncing.ok("SELECT INBOX")
    lines = resyncing.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert lines == [b"* VANISHED (EARLIER) 4:5\r\n"]
    lines = resyncing.ok(f"UID FETCH 1:4 (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert lines == [b"* VANISHED (EARLIER) 4\r\n"]


def test_expunges_come_as_vanished_with_the_new_highest(resyncing, other):
    """RFC 7162 §3.2.7, §3.2.10."""
    resyncing.ok("SELECT INBOX")
    resyncing.ok("STORE 2,4 +FLAGS.SILENT (\\Deleted)")
    lines, tagged = resyncing.command("EXPUNGE")
    assert lines[0] == b"* VANISHED 2,4\r\n"
    assert tagged.startswith(b"OK [HIGHESTMODSEQ %d] " % highest(resyncing))
    assert other.ok("NOOP")[:2] == [b"* 4 EXPUNGE\r\n", b"* 2 EXPUNGE\r\n"]
    resyncing.ok("CREATE there")
    assert resyncing.command("UID MOVE 1 there")[1].startswith(b"OK [HIGHESTMODSEQ ")


def test_whoever_has_not_heard_of_an_expunge_is_told_to_remember_less(resyncing, other):
    """What is told later than an expunge that is kept back must not make the client forget to ask for that."""
    resyncing.ok("SELECT INBOX")
    before = highest(resyncing)
    other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    resyncing.ok("NOOP")
    before = highest(resyncing)
    other.ok("EXPUNGE")
    lines = resyncing.ok("STORE 1 +FLAGS (\\Flagged)")
    assert lines[-1] == b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % before
    assert modseqs(lines)[1] > before
    lines = resyncing.ok("NOOP")
    assert b"* VANISHED 2\r\n" in lines
    assert b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % highest(resyncing) in lines


@pytest.mark.parametrize(
    "command",
    [
        "SELECT INBOX (CONDSTORE",
        "SELECT INBOX (NONSENSE)",
        "SELECT INBOX (QRESYNC (1))",
        "SELECT INBOX (QRESYNC (1 2 3:4 (1:2)))",
        "FETCH 1 FLAGS (CHANGEDSINCE)",
        "FETCH 1 FLAGS (CHANGEDSINCE 9223372036854775808)",
        "STORE 1 (UNCHANGEDSINCE x) FLAGS (\\Seen)",
        "STORE 1 (CHANGEDSINCE 1) FLAGS (\\Seen)",
        'SEARCH MODSEQ "/flags/\\\\seen" nobody 1',
    ],
)
def test_what_does_not_fit_the_grammar_is_refused(filled, command: str):
    """RFC 7162 §7."""
    filled.ok("SELECT INBOX")
    assert filled.refused(command).startswith(b"BAD")
