"""CONTEXT=SEARCH and CONTEXT=SORT on the wire (RFC 5267 §4)."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.servers.imap import contexts

LETTER = b"Subject: %b\r\nDate: %d Jan 2026 10:00:00 +0000\r\n\r\nwords\r\n"
_MOVES = re.compile(rb'\* ESEARCH \(TAG "(.+?)"\) UID (ADDTO|REMOVEFROM) \((.*)\)\r\n').fullmatch


class Mirror:
    """What a client knows of one result in UIDs: it does what it is told, and nothing else."""

    def __init__(self, client, command, *, is_sorted=False):
        self.is_sorted = is_sorted
        self.found = []
        for response in client.ok(command):
            if b" ALL " in response:
                self.found = list(expanded(response.split(b" ALL ")[1].split()[0]))
        self.tag = b"t%d" % client._count

    def hear(self, responses):
        for response in responses:
            moves = _MOVES(response)
            if moves and moves[1] == self.tag:
                pieces = moves[3].split()
                for at, numbers in zip(pieces[::2], pieces[1::2], strict=True):
                    for uid in expanded(numbers):
                        self._move(moves[2], int(at), uid)

    def _move(self, word, at, uid):
        assert (at == 0) is (not self.is_sorted)
        if word == b"REMOVEFROM":
            assert not self.is_sorted or self.found.index(uid) == at - 1
            self.found.remove(uid)
        else:
            assert uid not in self.found
            self.found.insert(at - 1 if self.is_sorted else len(self.found), uid)


def expanded(numbers):
    for part in numbers.split(b","):
        low, _, high = part.partition(b":")
        yield from range(int(low), int(high or low) + 1)


@pytest.fixture
def inbox(client):
    for day, subject in enumerate((b"delta", b"alpha", b"charlie"), 1):
        client.append(LETTER % (subject, day))
    client.ok("SELECT INBOX")
    return client


def test_a_search_is_kept_up_to_date_as_flags_change_and_messages_arrive(inbox):
    """RFC 5267 §4.3.3, §4.3.4."""
    (response,) = inbox.ok("UID SEARCH RETURN (UPDATE COUNT) DELETED")
    tag = b"t%d" % inbox._count
    assert response == b'* ESEARCH (TAG "%b") UID COUNT 0\r\n' % tag
    answer = inbox.ok("STORE 1:2 +FLAGS (\\Deleted)")
    assert answer[-1] == b'* ESEARCH (TAG "%b") UID ADDTO (0 1:2)\r\n' % tag
    answer = inbox.ok("STORE 1 -FLAGS (\\Deleted)")
    assert answer[-1] == b'* ESEARCH (TAG "%b") UID REMOVEFROM (0 1)\r\n' % tag
    inbox.send(b"u APPEND INBOX (\\Deleted) {%d+}\r\n%b\r\n" % (len(LETTER % (b"e", 4)), LETTER % (b"e", 4)))
    answer, _ = inbox.until(b"u")
    assert answer[0] == b"* 4 EXISTS\r\n"
    assert answer[-1] == b'* ESEARCH (TAG "%b") UID ADDTO (0 4)\r\n' % tag
    assert inbox.ok("EXPUNGE")[:3] == [
        b'* ESEARCH (TAG "%b") UID REMOVEFROM (0 2,4)\r\n' % tag, b"* 4 EXPUNGE\r\n", b"* 2 EXPUNGE\r\n",
    ]  # fmt: skip
    assert inbox.ok(b'CANCELUPDATE "%b" "never"' % tag) == []
    assert not any(b"ESEARCH" in response for response in inbox.ok("STORE 1 +FLAGS (\\Deleted)"))


def test_a_sorted_result_says_where_messages_enter_and_leave(inbox):
    """RFC 5267 §4.3.3: positions hold one after the other."""
    (response,) = inbox.ok("SORT RETURN (UPDATE CONTEXT ALL) (SUBJECT) UTF-8 NOT FLAGGED")
    tag = b"t%d" % inbox._count
    assert response.endswith(b" ALL 2:3,1\r\n")
    assert inbox.ok("UID STORE 2,1 +FLAGS (\\Flagged)")[-1] == (
        b'* ESEARCH (TAG "%b") REMOVEFROM (3 1 1 2)\r\n' % tag
    )
    assert inbox.ok("UID STORE 1:2 -FLAGS (\\Flagged)")[-1] == (b'* ESEARCH (TAG "%b") ADDTO (1 2 3 1)\r\n' % tag)


def test_another_session_s_changes_are_told_while_the_client_idles(inbox, connect, live):
    inbox.ok("UID SEARCH RETURN (UPDATE) KEYWORD Work")
    tag = b"t%d" % inbox._count
    inbox.send(b"i IDLE\r\n")
    assert inbox.response().startswith(b"+")
    other = connect(live)
    other.ok("SELECT INBOX")
    other.ok("STORE 3 +FLAGS (Work)")
    while not (response := inbox.response()).startswith(b"* ESEARCH"):
        assert response.startswith((b"* 3 FETCH", b"* FLAGS", b"* OK"))
    assert response == b'* ESEARCH (TAG "%b") UID ADDTO (0 3)\r\n' % tag
    inbox.send(b"DONE\r\n")
    assert inbox.until(b"i")[1].startswith(b"OK")


def test_what_is_not_kept_up_to_date_is_said_to_be_so(inbox):
    """RFC 5267 §4.3.1."""
    for _ in range(contexts.MOST):
        assert len(inbox.ok("SEARCH RETURN (UPDATE ALL) ALL")) == 1
    answer = inbox.ok("SEARCH RETURN (UPDATE ALL) ALL")
    assert answer[0].endswith(b" ALL 1:3\r\n")
    assert answer[1].startswith(b'* OK [NOUPDATE "t%d"] ' % inbox._count)
    inbox.ok(f'CANCELUPDATE "t{inbox._count - 1}"')
    inbox.ok("SEARCH RETURN (SAVE) SEEN")
    assert b"[NOUPDATE " in inbox.ok("SEARCH RETURN (UPDATE ALL) $")[-1]
    assert b"[NOUPDATE " in inbox.ok("ESEARCH IN (personal) RETURN (UPDATE ALL) ALL")[0]


def test_a_tag_that_is_in_use_is_refused(inbox):
    inbox.send(b"x SEARCH RETURN (UPDATE) ALL\r\nx SEARCH RETURN (UPDATE) ALL\r\nx SEARCH RETURN (COUNT) ALL\r\n")
    assert inbox.until(b"x")[1].startswith(b"OK")
    assert inbox.until(b"x")[1].startswith(b"BAD")
    assert inbox.until(b"x")[1].startswith(b"OK")
    inbox.ok("SELECT INBOX")
    inbox.send(b"x SEARCH RETURN (UPDATE) ALL\r\n")
    assert inbox.until(b"x")[1].startswith(b"OK"), "contexts end with the selection"
    assert inbox.refused("CANCELUPDATE").startswith(b"BAD")


def change(other, poster, box, what, number):
    """Another session does something, if there is a message to do it to."""
    count = len(other.ok("SEARCH ALL")[-1].split()) - 2
    if what == "append":
        poster.append(LETTER % (b"letter", number), box)
    elif what == "expunge":
        other.ok("EXPUNGE")
    elif number <= count:
        flag = "Deleted" if what == "delete" else "Flagged"
        other.ok(f"STORE {number} {'+FLAGS' if what == 'delete' else what} (\\{flag})")


STEPS = st.lists(
    st.tuples(st.sampled_from(("+FLAGS", "-FLAGS", "append", "expunge", "delete")), st.integers(1, 6)), max_size=10
)


@given(STEPS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_who_follows_the_updates_has_what_a_new_search_finds(client, connect, live, steps):
    box = f"Box{client._count}"
    other, poster = connect(live), connect(live)
    poster.ok(f"CREATE {box}")
    for day in (3, 1, 2):
        poster.append(LETTER % (b"letter", day), box)
    for each in (client, other):
        each.ok(f"SELECT {box}")
    criteria = "NOT FLAGGED"
    mirrors = [
        Mirror(client, f"UID SEARCH RETURN (UPDATE ALL) {criteria}"),
        Mirror(client, f"UID SORT RETURN (UPDATE ALL) (DATE) UTF-8 {criteria}", is_sorted=True),
        Mirror(client, "UID SEARCH RETURN (UPDATE ALL) 2:*"),
    ]
    for what, number in steps:
        change(other, poster, box, what, number)
        for line in ("FETCH 1:* FLAGS", "NOOP"):
            answer = client.command(line)[0]
            for mirror in mirrors:
                mirror.hear(answer)
    for mirror, search in zip(mirrors, (criteria, None, "2:*"), strict=True):
        line = f"UID SEARCH {search}" if search else f"UID SORT (DATE) UTF-8 {criteria}"
        expected = [int(n) for n in client.command(line)[0][-1].split()[2:]]
        assert (mirror.found if mirror.is_sorted else sorted(mirror.found)) == expected
    client.ok("CANCELUPDATE " + " ".join(f'"{mirror.tag.decode()}"' for mirror in mirrors))
    for each in (other, poster):
        each.close()
