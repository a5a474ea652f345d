"""UIDONLY: once it is enabled nothing goes by sequence numbers (RFC 9586)."""

import pytest


@pytest.fixture
def uidonly(client):
    """UIDs 2, 3 and 4 in INBOX."""
    for subject in b"abcd":
        client.append(b"Subject: %c\r\n\r\ntext\r\n" % subject)
    client.ok("SELECT INBOX")
    client.ok("STORE 1 +FLAGS (\\Deleted)")
    client.ok("CLOSE")
    assert client.ok("ENABLE UIDONLY") == [b"* ENABLED UIDONLY\r\n"]
    lines = client.ok("SELECT INBOX")
    assert b"* 3 EXISTS\r\n" in lines
    assert not any(b"[UNSEEN" in line for line in lines)  # §3.6: it is a sequence number
    return client


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1 FLAGS",
        "STORE 1 +FLAGS (\\Seen)",
        "SEARCH ALL",
        "SORT (DATE) UTF-8 ALL",
        "THREAD REFS UTF-8 ALL",
        "COPY 1 INBOX",
        "MOVE 1 INBOX",
        "UID SEARCH 1:2",
        "UID SEARCH NOT (SUBJECT a OR 1 2)",
        "UID SORT (DATE) UTF-8 1:*",
    ],
)
def test_sequence_numbers_are_refused(uidonly, command: str):
    """RFC 9586 §3.2, §3.5."""
    assert uidonly.refused(command).startswith(b"BAD [UIDREQUIRED]")


def test_replace_by_number_is_refused_with_its_literal(uidonly):
    assert uidonly.refused(b"REPLACE 1 INBOX {4+}\r\na: b").startswith(b"BAD [UIDREQUIRED]")
    untagged = uidonly.ok(b"UID REPLACE 4 INBOX {4+}\r\na: b")
    assert b"* VANISHED 4\r\n" in untagged
    assert not any(b"EXPUNGE" in line for line in untagged)


def test_fetches_and_stores_are_answered_by_uid(uidonly):
    """RFC 9586 §3.3: the UID is an item only where it is asked for."""
    assert uidonly.ok("UID FETCH 3:4 FLAGS") == [
        b"* 3 UIDFETCH (FLAGS ())\r\n",
        b"* 4 UIDFETCH (FLAGS ())\r\n",
    ]
    assert uidonly.ok("UID FETCH 2 (UID RFC822.SIZE)") == [b"* 2 UIDFETCH (UID 2 RFC822.SIZE 20)\r\n"]
    assert uidonly.ok("UID STORE 3 +FLAGS (\\Flagged)") == [b"* 3 UIDFETCH (FLAGS (\\Flagged))\r\n"]
    (line,) = uidonly.ok("UID FETCH 4 BODY[TEXT]")
    assert line == b"* 4 UIDFETCH (BODY[TEXT] {6}\r\ntext\r\n FLAGS (\\Seen))\r\n"


def test_searches_by_uid_and_what_they_saved_go_on(uidonly):
    assert uidonly.ok("UID SEARCH RETURN (SAVE COUNT) UID 3:4")[0].endswith(b"UID COUNT 2\r\n")
    assert [line[:13] for line in uidonly.ok("UID FETCH $ FLAGS")] == [b"* 3 UIDFETCH ", b"* 4 UIDFETCH "]
    assert uidonly.ok("UID SEARCH $ SUBJECT c") == [b"* SEARCH 3\r\n"]


def test_expunges_are_told_by_uid(uidonly, connect, live):
    """RFC 9586 §3.4, §3.6: with QRESYNC or without."""
    uidonly.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
    assert uidonly.ok("EXPUNGE") == [b"* VANISHED 2\r\n"]
    other = connect(live)
    other.ok("SELECT INBOX")
    other.ok("STORE 1 +FLAGS (\\Deleted)")
    other.ok("STORE 2 +FLAGS (\\Seen)")
    other.ok("EXPUNGE")
    other.ok("UNSELECT")
    other.append(b"Subject: e\r\n\r\n")
    assert set(uidonly.ok("NOOP")) >= {
        b"* VANISHED 3\r\n",
        b"* 2 EXISTS\r\n",
        b"* 4 UIDFETCH (FLAGS (\\Seen))\r\n",
    }


def test_with_condstore_and_qresync(uidonly):
    """RFC 9586 §3.7: no message numbers in the parameter of SELECT."""
    uidonly.ok("UNSELECT")
    uidonly.ok("ENABLE QRESYNC")
    lines = uidonly.ok("SELECT INBOX")
    (uidvalidity,) = [int(line.split()[3].rstrip(b"]")) for line in lines if b"UIDVALIDITY" in line]
    (line,) = uidonly.ok("UID STORE 3 +FLAGS.SILENT (\\Seen)")
    assert line.startswith(b"* 3 UIDFETCH (MODSEQ (")
    assert uidonly.refused(f"SELECT INBOX (QRESYNC ({uidvalidity} 1 1:4 (1,2 2,3)))").startswith(b"BAD [UIDREQUIRED]")
    lines = uidonly.ok(f"SELECT INBOX (QRESYNC ({uidvalidity} 1 1:4))")
    assert any(line.startswith(b"* 3 UIDFETCH (FLAGS (\\Seen) MODSEQ (") for line in lines)
    assert not any(b" FETCH " in line for line in lines)


def test_it_ends_with_the_login(uidonly):
    """RFC 8437 §4."""
    uidonly.ok("UNAUTHENTICATE")
    uidonly.ok("LOGIN alice@example.test secret")
    uidonly.ok("SELECT INBOX")
    assert uidonly.ok("SEARCH ALL") == [b"* SEARCH 1 2 3\r\n"]
