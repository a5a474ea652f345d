"""SORT and THREAD on the wire: RFC 5256, RFC 5267, RFC 5957."""

import pytest

from posthouse.message.threads import Node, Threaded
from posthouse.servers.imap.commands.thread import thread_list

MESSAGES = [
    (b"Zoe <a@x>", b"Re: beta", b"3 Jan 2026 10:00:00 +0000", b"<1@x>", b""),
    (b"b@x", b"Alpha", b"1 Jan 2026 10:00:00 +0000", b"<2@x>", b""),
    (b"Adam <c@x>", b"beta", b"2 Jan 2026 10:00:00 +0000", b"<3@x>", b""),
    (b"d@x", b"gamma", b"2 Jan 2026 03:00:00 -0900", b"<4@x>", b"<1@x>"),
]


@pytest.fixture
def inbox(client):
    for number, (sender, subject, date, name, references) in enumerate(MESSAGES, 1):
        client.append(
            b"From: %b\r\nSubject: %b\r\nDate: %b\r\nMessage-ID: %b\r\nReferences: %b\r\n\r\n%b\r\n"
            % (sender, subject, date, name, references, b"." * len(subject)),
            flags=f'" {number}-Jan-2026 00:00:00 +0000" ',
        )
    client.ok("SELECT INBOX")
    return client


@pytest.mark.parametrize(
    ("criteria", "order"),
    [
        ("ARRIVAL", b"1 2 3 4"),
        ("REVERSE ARRIVAL", b"4 3 2 1"),
        ("DATE", b"2 3 4 1"),
        ("FROM", b"1 2 3 4"),
        ("DISPLAYFROM", b"3 2 4 1"),
        ("SUBJECT", b"2 1 3 4"),
        ("SUBJECT REVERSE DATE", b"2 1 3 4"),
        ("SUBJECT DATE", b"2 3 1 4"),
        ("CC", b"1 2 3 4"),
    ],
)
def test_messages_are_sorted(inbox, criteria, order):
    """RFC 5256 §3: what is equal stays in the order of the mailbox."""
    for _ in range(2):  # the second time from what was kept
        assert inbox.ok(f"SORT ({criteria}) UTF-8 ALL") == [b"* SORT %b\r\n" % order]


def test_sizes_are_sorted_as_numbers(inbox):
    inbox.ok("CLOSE")
    inbox.append(b"Subject: large\r\n\r\n" + b"x" * 99_999)
    inbox.ok("SELECT INBOX")
    assert inbox.ok("SORT (REVERSE SIZE) US-ASCII ALL")[0].startswith(b"* SORT 5 ")


def test_only_what_matches_is_sorted(inbox):
    assert inbox.ok("UID SORT (REVERSE DATE) UTF-8 SUBJECT beta") == [b"* SORT 1 3\r\n"]
    assert inbox.ok("SORT (DATE) UTF-8 SUBJECT none") == [b"* SORT\r\n"]
    assert inbox.refused("SORT (DATE) KLINGON ALL").startswith(b"NO [BADCHARSET")
    assert inbox.refused("SORT (NONE) UTF-8 ALL").startswith(b"BAD")


def test_a_sorted_result_is_returned_in_its_order(inbox):
    """RFC 5267 §3."""
    (response,) = inbox.ok("SORT RETURN (MIN MAX ALL COUNT SAVE) (DATE) UTF-8 ALL")
    assert response.split(b")", 1)[1] == b" MIN 2 MAX 1 ALL 2:4,1 COUNT 4\r\n"
    (response,) = inbox.ok("UID SORT RETURN (PARTIAL -1:-2) (DATE) UTF-8 ALL")
    assert response.split(b")", 1)[1] == b" UID PARTIAL (-1:-2 4,1)\r\n"


def test_messages_are_threaded(inbox):
    """RFC 5256 §3."""
    assert inbox.ok("THREAD REFS UTF-8 ALL") == [b"* THREAD (2)(3)(1 4)\r\n"]
    assert inbox.ok("THREAD REFERENCES UTF-8 ALL") == [b"* THREAD (2)(3 1 4)\r\n"]
    assert inbox.ok("UID THREAD ORDEREDSUBJECT US-ASCII ALL") == [b"* THREAD (2)(3 1)(4)\r\n"]
    assert inbox.ok("THREAD REFS UTF-8 SUBJECT none") == [b"* THREAD\r\n"]
    assert inbox.refused("THREAD NONE UTF-8 ALL").startswith(b"BAD")
    assert inbox.refused("THREAD REFS KLINGON ALL").startswith(b"NO [BADCHARSET")


def node(uid: int, *children: Node) -> Node:
    return Node(Threaded(uid, 0, "", False, b"", b"") if uid else None, children=list(children))


def test_threads_are_written_as_in_the_rfc():
    """RFC 5256 §4, its examples."""
    roots = [node(2), node(3, node(6, node(4, node(23)), node(44, node(7, node(96)))))]
    assert thread_list(roots, None) == b"(2)(3 6 (4 23)(44 7 96))"
    assert thread_list([node(0, node(3), node(5))], None) == b"((3)(5))"
    deep = node(1)
    for uid in range(2, 50_000):
        deep = node(uid, deep)
    assert thread_list([deep], None).endswith(b" 2 1)")
