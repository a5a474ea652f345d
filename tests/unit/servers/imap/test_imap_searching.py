"""SEARCH with RETURN, its kept result, ages: RFC 4731, RFC 5182, RFC 5032, RFC 9394."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.imap.commands import ReturnOptions
from posthouse.servers.imap import results


@pytest.fixture
def inbox(client):
    """INBOX with nine messages; 2, 4, 6 and 8 are flagged; UIDs are numbers plus 1."""
    for number in range(10):
        client.append(b"Subject: %d\r\n\r\nbody\r\n" % number, flags="(\\Flagged) " if number % 2 == 0 else "")
    client.ok("SELECT INBOX")
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.ok("EXPUNGE")
    return client


def answer(client, line: str) -> bytes:
    """What comes after the tag in the one ESEARCH response."""
    (response,) = client.ok(line)
    head, rest = response.split(b")", 1)
    assert head == b'* ESEARCH (TAG "t%d"' % client._count
    return rest.strip()


@pytest.mark.parametrize(
    ("line", "items"),
    [
        ("SEARCH RETURN (MIN COUNT) FLAGGED", b"MIN 2 COUNT 4"),
        ("UID SEARCH RETURN (MIN MAX) FLAGGED", b"UID MIN 3 MAX 9"),
        ("SEARCH RETURN () 1:3", b"ALL 1:3"),
        ("SEARCH RETURN (ALL COUNT) FLAGGED", b"ALL 2,4,6,8 COUNT 4"),
        ("UID SEARCH RETURN () DRAFT", b"UID"),
        ("SEARCH RETURN (MIN MAX ALL COUNT) DRAFT", b"COUNT 0"),
        ("UID SEARCH RETURN (PARTIAL 1:3) ALL", b"UID PARTIAL (1:3 2:4)"),
        ("SEARCH RETURN (PARTIAL -1:-3) FLAGGED", b"PARTIAL (-1:-3 4,6,8)"),
        ("SEARCH RETURN (PARTIAL 3:2 COUNT) FLAGGED", b"COUNT 4 PARTIAL (3:2 4,6)"),
        ("SEARCH RETURN (PARTIAL 10:12) ALL", b"PARTIAL (10:12 NIL)"),
        ("SEARCH RETURN (PARTIAL -10:-12) ALL", b"PARTIAL (-10:-12 NIL)"),
        ("SEARCH RETURN (PARTIAL -8:-12) ALL", b"PARTIAL (-8:-12 1:2)"),
    ],
)
def test_a_search_returns_what_is_wanted_of_its_result(inbox, line, items):
    """RFC 4731 §3.1, RFC 9394 §3.1."""
    assert answer(inbox, line) == items


def test_a_kept_result_stands_for_its_messages(inbox):
    """RFC 5182 §2.1, §2.2."""
    assert inbox.ok("SEARCH RETURN (SAVE) FLAGGED") == []
    assert inbox.ok("FETCH $ UID") == [b"* %d FETCH (UID %d)\r\n" % (n, n + 1) for n in (2, 4, 6, 8)]
    assert inbox.ok("UID SEARCH UID $ 3:5") == [b"* SEARCH 5\r\n"]
    assert answer(inbox, "SEARCH RETURN (SAVE MIN) $ 3:9") == b"MIN 4"
    assert inbox.ok("SEARCH $") == [b"* SEARCH 4\r\n"]
    assert answer(inbox, "SEARCH RETURN (SAVE MIN MAX) FLAGGED") == b"MIN 2 MAX 8"
    assert inbox.ok("SEARCH $") == [b"* SEARCH 2 8\r\n"]
    assert answer(inbox, "SEARCH RETURN (SAVE COUNT MIN) FLAGGED") == b"MIN 2 COUNT 4"
    assert inbox.ok("SEARCH NOT $") == [b"* SEARCH 1 3 5 7 9\r\n"]


def test_a_kept_result_can_be_flagged_copied_moved_and_expunged(inbox):
    inbox.ok("CREATE Elsewhere")
    inbox.ok("SEARCH RETURN (SAVE) 2:4")
    assert inbox.ok("STORE $ +FLAGS.SILENT (\\Deleted)") == []
    assert b" 3:5 1:3]" in inbox.command("COPY $ Elsewhere")[1]
    inbox.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert inbox.ok("UID EXPUNGE $")[:3] == [b"* %d EXPUNGE\r\n" % n for n in (4, 3, 2)]
    assert inbox.ok("FETCH $ UID") == []  # they are no longer in it
    inbox.ok("SEARCH RETURN (SAVE) 2:3")
    inbox.ok("MOVE $ Elsewhere")
    assert inbox.ok("UID SEARCH ALL") == [b"* SEARCH 2 8 9 10\r\n"]


def test_expunged_messages_leave_a_kept_result(inbox):
    """RFC 5182 §2.1: also where another session has removed them."""
    inbox.ok("SEARCH RETURN (SAVE) 1:4")
    inbox.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    inbox.ok("EXPUNGE")
    assert [line.split()[1] for line in inbox.ok("FETCH $ UID")] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("change", ["SELECT INBOX", "EXAMINE INBOX", "SEARCH RETURN (SAVE) CHARSET X-NONE TEXT x"])
def test_a_kept_result_is_empty_after(inbox, change):
    """RFC 5182 §2.1: another selection, or a SEARCH that was to be kept and got NO."""
    inbox.ok("SEARCH RETURN (SAVE) ALL")
    inbox.command(change)
    assert inbox.ok("SEARCH $") == [b"* SEARCH\r\n"]


def test_a_kept_result_survives_what_does_not_change_it(inbox):
    """RFC 5182 §2.1: BAD and searches without SAVE leave it."""
    inbox.ok("SEARCH RETURN (SAVE) 1:2")
    assert inbox.refused("SEARCH RETURN (SAVE NONE) 3").startswith(b"BAD")
    assert inbox.refused("SEARCH CHARSET X-NONE 3").startswith(b"NO [BADCHARSET (US-ASCII UTF-8")
    inbox.ok("SEARCH RETURN (ALL) 5")
    assert inbox.ok("SEARCH $") == [b"* SEARCH 1 2\r\n"]


def test_ages_count_from_now(client):
    """RFC 5032 §2."""
    client.append(b"Subject: new\r\n\r\n")
    client.append(b"Subject: old\r\n\r\n", flags='" 7-Feb-1994 21:52:25 -0800" ')
    client.ok("SELECT INBOX")
    assert client.ok("SEARCH YOUNGER 3600") == [b"* SEARCH 1\r\n"]
    assert client.ok("SEARCH OLDER 3600") == [b"* SEARCH 2\r\n"]
    assert client.ok("SEARCH YOUNGER 4294967295") == [b"* SEARCH 1 2\r\n"]


@given(st.sets(st.integers(1, 50)), st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_a_part_of_a_result_is_counted_from_either_end(found, a, b, backwards):
    """RFC 9394 §3.1."""
    result = sorted(found)
    places = result[::-1] if backwards else result
    expected = [uid for place, uid in enumerate(places, 1) if min(a, b) <= place <= max(a, b)]
    wanted = (-a, -b) if backwards else (a, b)
    assert sorted(results.part(result, wanted)) == sorted(expected)


@pytest.mark.parametrize(
    ("names", "uids"),
    [
        ({b"SAVE"}, [2, 3, 5, 9]),
        ({b"SAVE", b"MIN"}, [2]),
        ({b"SAVE", b"MAX"}, [9]),
        ({b"SAVE", b"MIN", b"MAX"}, [2, 9]),
        ({b"SAVE", b"MIN", b"COUNT"}, [2, 3, 5, 9]),
        ({b"SAVE", b"PARTIAL"}, [3, 5]),
        ({b"SAVE", b"PARTIAL", b"MAX"}, [3, 5, 9]),
        ({b"SAVE", b"PARTIAL", b"COUNT"}, [2, 3, 5, 9]),
    ],
)
def test_what_is_kept_is_what_was_returned(names, uids):
    """RFC 5182 §2.4; RFC 9394."""
    returns = ReturnOptions(frozenset(names), (2, 3) if b"PARTIAL" in names else None)
    assert results.kept(returns, [2, 3, 5, 9]) == uids
