"""Messages: appending, fetching, flagging, copying, moving, expunging, searching, hearing of them."""

import pytest

from posthouse.config.settings import Imap

MULTIPART = (
    b"From: Alice <alice@example.test>\r\n"
    b"Subject: parts\r\n"
    b"X-Folded: one\r\n two\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n'
    b"\r\n"
    b"preamble\r\n"
    b"--b\r\n"
    b"Content-Type: text/plain\r\n"
    b"\r\n"
    b"first\r\n"
    b"--b\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"\r\n"
    b"Subject: inner\r\n"
    b"\r\n"
    b"inside\r\n"
    b"--b--\r\n"
)


def numbered(count: int) -> list[bytes]:
    return [b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number) for number in range(1, count + 1)]


@pytest.fixture
def inbox(client):
    """INBOX with five messages, selected."""
    for message in numbered(5):
        client.append(message)
    client.ok("SELECT INBOX")
    return client


def test_a_message_comes_back_octet_for_octet(client):
    """RFC 3501 §6.3.11, RFC 4315 §3."""
    message = b"Subject: x\r\n\r\nbare LF\nand CR\r8 bit \xff\r\n\r\n"
    tagged = client.append(message, flags='(\\Flagged $Work) " 7-Feb-1994 21:52:25 -0800" ')
    assert tagged.startswith(b"OK [APPENDUID ")
    assert tagged.split()[3] == b"1]"
    client.ok("SELECT INBOX")
    (response,) = client.ok("FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
    assert response.startswith(b"* 1 FETCH (UID 1 FLAGS (")
    for flag in (b"$Work", b"\\Flagged"):
        assert flag in response.split(b"INTERNALDATE")[0]
    assert b'INTERNALDATE " 8-Feb-1994 05:52:25 +0000"' in response
    assert b"RFC822.SIZE %d BODY[] {%d}\r\n%b)\r\n" % (len(message), len(message), message) in response


def test_an_append_can_wait_for_leave(client):
    client.send(b"a APPEND INBOX {10}\r\n")
    assert client.response() == b"+ OK\r\n"
    client.send(b"Subject: x\r\n")
    assert client.until(b"a")[1].startswith(b"OK [APPENDUID")


def test_an_append_into_nowhere_is_refused_before_it_is_sent(client):
    """RFC 3501 §6.3.11, TRYCREATE."""
    client.send(b"a APPEND nowhere {100000}\r\n")
    assert client.until(b"a") == ([], b"NO [TRYCREATE] No such mailbox")
    client.ok("NOOP")


@pytest.mark.parametrize("size", [b"{1001}", b"{4294967295}", b"{99999999999999999999999}"])
def test_a_message_that_is_too_large_is_refused(start, connect, size: bytes):
    client = connect(start(imap=Imap(max_append_bytes=1000)))
    client.send(b"a APPEND INBOX " + size + b"\r\n")
    assert client.until(b"a")[1].startswith(b"NO [TOOBIG]")
    client.ok("NOOP")


def test_an_account_without_room_refuses_messages(live, connect):
    """RFC 9208's OVERQUOTA, in RFC 5530 §3."""
    client = connect(live, login=False)
    client.ok("LOGIN bob@example.test secret")
    assert client.append(b"Subject: x\r\n\r\n" + b"y" * 5000).startswith(b"NO [OVERQUOTA]")


def test_an_empty_message_is_no_message(client):
    assert client.append(b"").startswith(b"NO")


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (b"BODY[HEADER]", MULTIPART[: MULTIPART.index(b"preamble")]),
        (b"BODY[TEXT]", MULTIPART[MULTIPART.index(b"preamble") :]),
        (b"BODY[1]", b"first"),
        (b"BODY[1.MIME]", b"Content-Type: text/plain\r\n\r\n"),
        (b"BODY[2]", b"Subject: inner\r\n\r\ninside"),
        (b"BODY[2.HEADER]", b"Subject: inner\r\n\r\n"),
        (b"BODY[2.TEXT]", b"inside"),
        (b"BODY[2.1]", b"inside"),
        (b"BODY[2.HEADER.FIELDS (Subject)]", b"Subject: inner\r\n\r\n"),
        (b"BODY[HEADER.FIELDS (subject X-Folded)]", b"Subject: parts\r\nX-Folded: one\r\n two\r\n\r\n"),
        (b"BODY[HEADER.FIELDS (X-None)]", b"\r\n"),
        (b"RFC822.HEADER", MULTIPART[: MULTIPART.index(b"preamble")]),
        (b"RFC822", MULTIPART),
        (b"RFC822.TEXT", MULTIPART[MULTIPART.index(b"preamble") :]),
    ],
)
def test_a_section_has_exactly_its_octets(client, item: bytes, value: bytes):
    """RFC 3501 §6.4.5."""
    client.append(MULTIPART, flags="(\\Seen) ")
    client.ok("SELECT INBOX")
    (response,) = client.ok(b"FETCH 1 " + item)
    assert response == b"* 1 FETCH (%b {%d}\r\n%b)\r\n" % (item, len(value), value)


def test_fields_can_be_left_out(client):
    client.append(MULTIPART)
    client.ok("SELECT INBOX")
    (response,) = client.ok("FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (From X-Folded Content-Type)]")
    assert response.endswith(b"{18}\r\nSubject: parts\r\n\r\n)\r\n")


@pytest.mark.parametrize("item", [b"BODY[3]", b"BODY[1.HEADER]", b"BODY[1.1]", b"BODY[2.2.MIME]", b"BODY[1.TEXT]"])
def test_a_part_that_is_not_there_is_nil(client, item: bytes):
    client.append(MULTIPART, flags="(\\Seen) ")
    client.ok("SELECT INBOX")
    assert client.ok(b"FETCH 1 " + item) == [b"* 1 FETCH (%b NIL)\r\n" % item]


@pytest.mark.parametrize(
    ("partial", "value"), [(b"<0.7>", b"Subject"), (b"<9.100>", b"3\r\n\r\nbody 3\r\n"), (b"<999.5>", b"")]
)
def test_a_partial_ends_where_the_section_does(inbox, partial: bytes, value: bytes):
    """RFC 3501 §6.4.5; the label has the first octet only."""
    (response,) = inbox.ok(b"FETCH 3 BODY.PEEK[]" + partial)
    start = partial[: partial.index(b".")]
    assert response == b"* 3 FETCH (BODY[]%b> {%d}\r\n%b)\r\n" % (start, len(value), value)


def test_envelope_and_structure_are_fetched(client):
    client.append(MULTIPART)
    client.ok("SELECT INBOX")
    (response,) = client.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY)")
    assert b'ENVELOPE (NIL "parts" (("Alice" NIL "alice" "example.test"))' in response
    assert b'("message" "rfc822" NIL NIL NIL "7bit" 24 (NIL "inner" NIL' in response
    assert response == client.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY)")[0]


def test_reading_a_body_marks_it_as_seen_in_the_same_response(inbox):
    """RFC 3501 §6.4.5."""
    (response,) = inbox.ok("FETCH 2 BODY[TEXT]")
    assert response.startswith(b"* 2 FETCH (BODY[TEXT] {8}\r\nbody 2\r\n FLAGS (")
    assert b"\\Seen" in response
    (response,) = inbox.ok("FETCH 3 (FLAGS BODY[TEXT])")
    assert response.startswith(b"* 3 FETCH (FLAGS (")
    assert response.count(b"FLAGS") == 1
    assert b"\\Seen" in response
    assert b"FLAGS" not in inbox.ok("FETCH 2 BODY[TEXT]")[0]
    assert inbox.ok("SEARCH SEEN") == [b"* SEARCH 2 3\r\n"]


def test_peeking_and_read_only_views_mark_nothing(inbox):
    inbox.ok("FETCH 1:* BODY.PEEK[]")
    assert inbox.ok("SEARCH SEEN") == [b"* SEARCH\r\n"]
    inbox.ok("EXAMINE INBOX")
    inbox.ok("FETCH 1:* BODY[]")
    assert inbox.ok("SEARCH SEEN") == [b"* SEARCH\r\n"]
    for line in ("STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "MOVE 1 x"):
        assert inbox.refused(line).startswith(b"NO")


def test_uid_commands_answer_with_uids(inbox):
    """RFC 3501 §6.4.8."""
    responses = inbox.ok("UID FETCH 4:4294967295 FLAGS")
    assert [line.split(b" FLAGS")[0] for line in responses] == [b"* 4 FETCH (UID 4", b"* 5 FETCH (UID 5"]
    assert inbox.ok("UID FETCH 900:* (UID)") == [b"* 5 FETCH (UID 5)\r\n"]
    assert inbox.ok("UID FETCH 900:901 (UID)") == []
    assert inbox.ok("UID SEARCH 2:3") == [b"* SEARCH 2 3\r\n"]


def test_a_sequence_number_that_is_not_there_is_bad(inbox):
    """RFC 3501 §9, seq-number."""
    for line in ("FETCH 6 FLAGS", "STORE 1:6 FLAGS ()", "COPY 9 INBOX"):
        assert inbox.refused(line).startswith(b"BAD")
    assert inbox.ok("FETCH 5:* UID") == [b"* 5 FETCH (UID 5)\r\n"]


def test_flags_are_set_added_and_removed(inbox):
    """RFC 3501 §6.4.6."""
    told, permanent, response = inbox.ok("STORE 2 FLAGS (\\Flagged $Work)")
    # A flag that is new is told of before it is used.
    assert told == b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)\r\n"
    assert permanent.startswith(b"* OK [PERMANENTFLAGS (")
    assert b"$Work \\*)]" in permanent
    assert b"$Work" in response
    (response,) = inbox.ok("UID STORE 2 -FLAGS (\\Flagged)")
    assert response.startswith(b"* 2 FETCH (UID 2 FLAGS (")
    assert b"\\Flagged" not in response
    assert not any(b"FLAGS" in line for line in inbox.ok("STORE 2 +FLAGS.SILENT (\\Deleted)"))
    assert b"\\Deleted" in inbox.ok("FETCH 2 FLAGS")[0]
    assert inbox.ok("SEARCH KEYWORD $work") == [b"* SEARCH 2\r\n"]


def test_expunge_numbers_hold_one_after_the_other(inbox):
    """RFC 3501 §7.4.1."""
    inbox.ok("STORE 2:4 +FLAGS.SILENT (\\Deleted)")
    numbers = [int(line.split()[1]) for line in inbox.ok("UID EXPUNGE 2:3") if b"EXPUNGE" in line]
    left = [1, 2, 3, 4, 5]
    for number in numbers:
        del left[number - 1]
    assert left == [1, 4, 5]
    inbox.ok("EXPUNGE")
    assert inbox.ok("UID SEARCH ALL") == [b"* SEARCH 1 5\r\n"]


def test_close_expunges_without_a_word(inbox):
    """RFC 3501 §6.4.2; UNSELECT, RFC 3691, doesn't."""
    inbox.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert inbox.ok("UNSELECT") == []
    assert b"* 5 EXISTS\r\n" in inbox.ok("SELECT INBOX")
    assert inbox.ok("CLOSE") == []
    assert b"* 4 EXISTS\r\n" in inbox.ok("SELECT INBOX")


def test_nobody_loses_a_number_in_the_middle_of_a_fetch(live, inbox, connect):
    """RFC 3501 §7.4.1: no EXPUNGE during FETCH, STORE and SEARCH."""
    other = connect(live)
    other.ok("SELECT INBOX")
    inbox.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    inbox.ok("EXPUNGE")
    for line in ("FETCH 1 FLAGS", "SEARCH ALL", "STORE 1 +FLAGS.SILENT (\\Flagged)"):
        assert not any(b"EXPUNGE" in response for response in other.ok(line))
    assert b"* 2 EXPUNGE\r\n" in other.ok("NOOP")
    assert other.ok("UID SEARCH ALL") == [b"* SEARCH 1 3 4 5\r\n"]


def test_an_idle_client_hears_of_new_mail_at_once(live, inbox, connect):
    """RFC 2177."""
    inbox.send(b"i IDLE\r\n")
    assert inbox.response() == b"+ idling\r\n"
    connect(live).append(b"Subject: news\r\n\r\n")
    responses = [inbox.response()]
    while b"* 6 EXISTS\r\n" not in responses:
        responses.append(inbox.response())
    inbox.send(b"DONE\r\n")
    assert inbox.until(b"i")[1] == b"OK IDLE completed"


def test_copies_say_their_uids(inbox):
    """RFC 4315 §3; RFC 3501 §6.4.7."""
    assert inbox.refused("COPY 1:2 there").startswith(b"NO [TRYCREATE]")
    inbox.ok("CREATE there")
    _, tagged = inbox.command("COPY 2,4:5 there")
    assert tagged.startswith(b"OK [COPYUID ")
    assert tagged.split()[3:5] == [b"2,4:5", b"1:3]"]
    assert inbox.command("UID COPY 77 there")[1] == b"OK No messages to copy"
    assert inbox.ok("STATUS there (MESSAGES)") == [b"* STATUS there (MESSAGES 3)\r\n"]


def test_moved_messages_are_gone_from_where_they_were(inbox):
    """RFC 6851 §4.3: COPYUID comes before the EXPUNGEs."""
    inbox.ok("CREATE there")
    responses = inbox.ok("MOVE 2:3 there")
    assert b"COPYUID" in responses[0]
    assert sum(b"EXPUNGE" in line for line in responses) == 2
    assert inbox.ok("UID SEARCH ALL") == [b"* SEARCH 1 4 5\r\n"]
    assert inbox.refused("UID MOVE 1 nowhere").startswith(b"NO [TRYCREATE]")


def test_searches_find_what_they_say(inbox):
    """RFC 3501 §6.4.4."""
    assert inbox.ok("SEARCH SUBJECT 3") == [b"* SEARCH 3\r\n"]
    assert inbox.ok('SEARCH BODY "body 4"') == [b"* SEARCH 4\r\n"]
    assert inbox.ok("SEARCH OR SUBJECT 1 (2:3 NOT SUBJECT 2)") == [b"* SEARCH 1 3\r\n"]
    assert inbox.ok("SEARCH SINCE 1-Jan-2000 LARGER 5") == [b"* SEARCH 1 2 3 4 5\r\n"]
    assert inbox.refused("SEARCH CHARSET X-NONE ALL").startswith(b"NO [BADCHARSET (US-ASCII UTF-8")


def test_a_large_message_passes_through_whole(client):
    """Streamed in slices both ways; every octet and the response around it."""
    line = b"0123456789" * 7 + b"\r\n"
    message = b"Subject: large\r\n\r\n" + line * 50_000
    client.append(message, flags="(\\Seen) ")
    client.ok("SELECT INBOX")
    (response,) = client.ok("FETCH 1 (UID BODY[] RFC822.SIZE)")
    assert response == b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%b RFC822.SIZE %d)\r\n" % (
        len(message),
        message,
        len(message),
    )
    (response,) = client.ok("FETCH 1 BODY.PEEK[TEXT]<100.2000000>")
    assert response == b"* 1 FETCH (BODY[TEXT]<100> {2000000}\r\n%b)\r\n" % message[118:2000118]


def test_many_messages_are_fetched_in_order(client):
    for message in numbered(300):
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))
    for _ in range(300):
        client.until(b"a")
    client.ok("SELECT INBOX")
    responses = client.ok("FETCH 1:* (UID BODY.PEEK[])")
    assert [int(line.split()[1]) for line in responses] == list(range(1, 301))
    assert b"body 300\r\n" in responses[-1]


@pytest.mark.parametrize(
    "items",
    [
        "UID FLAGS RFC822.SIZE INTERNALDATE",
        "ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (Subject X-Folded)]",
        "BODY.PEEK[HEADER.FIELDS (Subject)]<3.6> FLAGS",
        "BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[HEADER.FIELDS (From)] UID",
        "BODY.PEEK[HEADER.FIELDS.NOT (From)] BODY",
    ],
)
def test_what_is_kept_is_shown_as_what_is_read(client, items):
    for message in [*numbered(12), MULTIPART]:
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))
        client.until(b"a")
    client.ok("SELECT INBOX")
    client.ok("STORE 2:3 FLAGS (\\Deleted)")
    each = [client.ok(f"FETCH {number} ({items})")[0] for number in range(1, 14)]
    assert client.ok(f"FETCH 1:* ({items})") == each
    assert client.ok(f"FETCH 1:* ({items})") == each
    client.ok("EXPUNGE")
    again = client.ok(f"FETCH 1:* ({items})")
    assert [line.split(b" ", 2)[2] for line in again] == [line.split(b" ", 2)[2] for line in (each[0], *each[3:])]
