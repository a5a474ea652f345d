"""APPEND of several messages and of parts, in UTF-8, and REPLACE."""

import os

import pytest

from posthouse.config.settings import Imap

A, B = b"Subject: a\r\n\r\nfirst\r\n", b"Subject: b\r\n\r\nsecond\r\n"


def lit(data: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(data), data)


def test_several_messages_come_at_once(client):
    """RFC 3502 §6.3.11; APPENDUID names all of them (RFC 4315 §3)."""
    untagged, tagged = client.command(b"APPEND INBOX (\\Seen) " + lit(A) + b' " 7-Feb-1994 22:43:04 -0800" ' + lit(B))
    assert untagged == []
    assert tagged.startswith(b"OK [APPENDUID ")
    assert tagged.split()[3] == b"1:2]"
    client.ok("EXAMINE INBOX")
    assert client.ok("FETCH 1:2 (FLAGS RFC822.SIZE)") == [
        b"* 1 FETCH (FLAGS (\\Recent \\Seen) RFC822.SIZE %d)\r\n" % len(A),
        b"* 2 FETCH (FLAGS (\\Recent) RFC822.SIZE %d)\r\n" % len(B),
    ]
    assert client.ok("FETCH 2 INTERNALDATE") == [b'* 2 FETCH (INTERNALDATE " 8-Feb-1994 06:43:04 +0000")\r\n']


def test_one_that_cannot_be_takes_the_others_with_it(client):
    """RFC 3502: all or none."""
    assert client.refused(b"APPEND INBOX " + lit(A) + b" " + lit(b"")).startswith(b"NO")
    assert client.refused(b"APPEND INBOX " + lit(A) + b" (\\Nonsense) " + lit(B)).startswith(b"BAD")
    assert client.ok("STATUS INBOX (MESSAGES UIDNEXT)") == [b"* STATUS INBOX (MESSAGES 0 UIDNEXT 1)\r\n"]


def test_more_than_the_quota_takes_is_refused_whole(live, connect):
    bob = connect(live, login=False)
    bob.ok("LOGIN bob@example.test secret")
    large = b"Subject: x\r\n\r\n" + b"y" * 1600
    assert bob.refused(b"APPEND INBOX " + lit(large) + b" " + lit(large)).startswith(b"NO [OVERQUOTA]")
    assert bob.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)\r\n"]


def test_too_many_messages_are_refused(client):
    many = b" ".join([lit(A)] * 251)
    assert client.refused(b"APPEND INBOX " + many).startswith(b"NO [LIMIT]")
    assert client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)\r\n"]


@pytest.fixture
def parts(client):
    """A mailbox with one message of two parts."""
    client.append(
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\nX-Part: 2\r\n\r\ntwo\r\n--x--\r\n"
    )
    return client


def test_a_message_is_put_together_from_what_is_there(parts):
    """RFC 4469 §3."""
    text = lit(b"Subject: new\r\n\r\n")
    tagged = parts.command(
        b"APPEND INBOX (\\Draft) CATENATE (TEXT " + text + b' URL "/INBOX/;UID=1/;SECTION=2"'
        b' URL "/INBOX/;UID=1/;SECTION=1/;PARTIAL=1.1" TEXT {1+}\r\n! URL /INBOX/;UID=1/;SECTION=2.MIME)'
    )[1]
    assert tagged.startswith(b"OK [APPENDUID ")
    parts.ok("SELECT INBOX")
    whole = b"Subject: new\r\n\r\ntwon!X-Part: 2\r\n\r\n"
    assert parts.ok("FETCH 2 BODY.PEEK[]") == [b"* 2 FETCH (BODY[] {%d}\r\n%b)\r\n" % (len(whole), whole)]


def test_a_whole_message_may_be_all_of_another(parts):
    validity = parts.ok("STATUS INBOX (UIDVALIDITY)")[0].split()[-1].strip(b")").decode()
    parts.ok("CREATE &AOQ-")
    parts.ok(f'APPEND &AOQ- CATENATE (URL "/INBOX;UIDVALIDITY={validity}/;UID=1")')
    parts.ok('APPEND INBOX CATENATE (URL "/%C3%A4/;UID=1")')
    parts.ok("SELECT INBOX")
    one, two = parts.ok("FETCH 1:2 BODY.PEEK[]")
    assert one.split(b"FETCH", 1)[1] == two.split(b"FETCH", 1)[1]


def test_large_messages_are_put_together_in_slices(client):
    body = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 200_000
    client.append(body)
    client.ok("APPEND INBOX CATENATE (URL /INBOX/;UID=1 URL /INBOX/;UID=1/;SECTION=TEXT/;PARTIAL=1048570.10)")
    client.ok("SELECT INBOX")
    text = body[body.index(b"0") :]
    expected = body + text[1048570:1048580]
    assert client.ok("FETCH 2 BODY.PEEK[]") == [b"* 2 FETCH (BODY[] {%d}\r\n%b)\r\n" % (len(expected), expected)]


@pytest.mark.parametrize(
    "url",
    [
        "/INBOX/;UID=9",
        "/INBOX;UIDVALIDITY=1/;UID=1",
        "/Nowhere/;UID=1",
        "/../bob/;UID=1",
        "/INBOX/;UID=1/;SECTION=7",
        "/INBOX/;UID=1/;SECTION=NONSENSE",
        "imap://bob@mail.example.test/INBOX/;UID=1",
        "/%FF/;UID=1",
        "INBOX",
    ],
)
def test_urls_of_nothing_are_named(parts, url: str):
    """RFC 4469 §4: BADURL; the message is not made."""
    refused = parts.refused(b'APPEND INBOX CATENATE (URL "%b" TEXT ' % url.encode() + lit(A) + b")")
    assert refused.startswith(b'NO [BADURL "')
    assert parts.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 1)\r\n"]


def test_what_is_put_together_has_a_limit(start, connect):
    client = connect(start(imap=Imap(max_append_bytes=3000)))
    client.append(b"Subject: x\r\n\r\n" + b"y" * 2000)
    refused = client.refused("APPEND INBOX CATENATE (URL /INBOX/;UID=1 URL /INBOX/;UID=1)")
    assert refused.startswith(b"NO [TOOBIG]")


def test_a_message_is_replaced(client):
    """RFC 8508 §3.4: the new one is told first, then the old one goes."""
    client.append(A)
    client.append(A)
    client.ok("SELECT INBOX")
    untagged, tagged = client.command(b"REPLACE 1 INBOX (\\Draft) " + lit(B))
    assert untagged[0].startswith(b"* OK [APPENDUID ")
    assert untagged[1:3] == [b"* 1 EXPUNGE\r\n", b"* 2 EXISTS\r\n"]
    assert tagged == b"OK REPLACE completed"
    assert client.ok("UID FETCH 1:* RFC822.SIZE") == [
        b"* 1 FETCH (UID 2 RFC822.SIZE %d)\r\n" % len(A),
        b"* 2 FETCH (UID 3 RFC822.SIZE %d)\r\n" % len(B),
    ]


def test_a_draft_is_replaced_by_what_was_sent_elsewhere(client):
    client.ok("CREATE Sent")
    client.append(A)
    client.ok("SELECT INBOX")
    untagged, _ = client.command(b"UID REPLACE 1 Sent " + lit(B))
    assert untagged[1:] == [b"* 1 EXPUNGE\r\n", b"* 0 RECENT\r\n"]
    assert client.ok("STATUS Sent (MESSAGES)") == [b"* STATUS Sent (MESSAGES 1)\r\n"]


def test_nothing_is_replaced_where_the_new_one_cannot_be(client):
    client.append(A)
    client.ok("SELECT INBOX")
    assert client.refused(b"REPLACE 1 Nowhere " + lit(B)).startswith(b"NO [TRYCREATE]")
    assert client.refused(b"REPLACE 2 INBOX " + lit(B)).startswith(b"BAD")
    assert client.refused(b"UID REPLACE 9 INBOX " + lit(B)).startswith(b"NO [NONEXISTENT]")
    assert client.refused(b"REPLACE 1 INBOX " + lit(b"")).startswith(b"NO")
    client.ok("EXAMINE INBOX")
    assert client.refused(b"REPLACE 1 INBOX " + lit(B)).startswith(b"NO")
    assert client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 1)\r\n"]


def test_with_qresync_the_modification_sequence_is_told(client):
    """RFC 7162 §3.2.7, for what expunges."""
    client.append(A)
    client.ok("ENABLE QRESYNC")
    client.ok("SELECT INBOX")
    untagged, tagged = client.command(b"REPLACE 1 INBOX " + lit(B))
    assert b"* VANISHED 1\r\n" in untagged
    assert tagged.startswith(b"OK [HIGHESTMODSEQ ")


def test_utf8_messages_and_names_are_for_those_who_enabled_them(client):
    """RFC 6855 §3, §4."""
    message = "Subject: Grüße\r\n\r\n".encode()
    wrapped = b"UTF8 (~{%d+}\r\n%b)" % (len(message), message)
    assert client.refused(b"APPEND INBOX " + wrapped).startswith(b"BAD")
    assert client.ok("ENABLE UTF8=ACCEPT") == [b"* ENABLED UTF8=ACCEPT\r\n"]
    client.ok('CREATE "Grüße"'.encode())
    client.ok('APPEND "Grüße" '.encode() + wrapped)
    client.ok('SELECT "Grüße"'.encode())
    assert client.ok('SEARCH SUBJECT "Grüße"'.encode()) == [b"* SEARCH 1\r\n"]
    assert client.refused("SEARCH CHARSET UTF-8 ALL").startswith(b"BAD")


def test_files_of_refused_messages_are_gone(live, client):
    client.refused(b"APPEND INBOX " + lit(A) + b" " + lit(b""))
    root = os.path.join(live.settings.data_dir, "mail")
    files = [name for path, _, names in os.walk(root) for name in names if path.endswith(("/cur", "/new", "/tmp"))]
    assert files == []
