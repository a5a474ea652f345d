"""Messages as they should not be, through a whole server: real bounces, broken MIME, and giants."""

import re
import sqlite3

import pytest
from tests.hostile import MEGABYTE, Client, inbox, running, unharmed
from tests.imap_responses import check_envelope, check_structure, fetched

BEGUN = b"EHLO client.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    yield from running(tmp_path_factory.mktemp("messages"))


@pytest.fixture(autouse=True)
def empty(target):
    yield
    with opened(target) as client:
        client.imap("STORE 1:* FLAGS.SILENT (\\Deleted)")
        client.imap("EXPUNGE")


@pytest.fixture(scope="module")
def corpus(test_data):
    paths = sorted(path for folder in ("bounces", "mail-parser") for path in (test_data / folder).rglob("*.eml"))
    assert len(paths) > 800
    return [data for path in paths if (data := path.read_bytes())]


def opened(target, account="alice@example.test"):
    client = Client(target, "imap")
    client.imap(f"LOGIN {account} secret")
    client.imap("SELECT INBOX")
    return client


def test_real_bounces_and_broken_messages_are_kept_octet_for_octet_by_append(target, corpus):
    """Bare CR and LF too; only NUL can't be said in IMAP (RFC 3501 §9: CHAR8)."""
    with unharmed(target), opened(target) as client:
        for number, message in enumerate(corpus):
            client.send(b"a%d APPEND INBOX {%d+}\r\n%b\r\n" % (number, len(message), message))
            assert b" OK " in client.until(b"a%d " % number).splitlines()[-1]
        client.imap("NOOP")
        found = fetched(client.imap("FETCH 1:* (UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])"))
        assert len(found) == len(corpus)
        for number, message in enumerate(corpus, 1):
            items = found[number]
            assert items[b"BODY[]"] == message.replace(b"\0", b"\x80")
            assert items[b"RFC822.SIZE"] == len(message)
            check_envelope(items[b"ENVELOPE"])
            check_structure(items[b"BODYSTRUCTURE"])
        assert b"OK SEARCH completed" in client.imap("SEARCH OR TEXT mailer SUBJECT undeliverable")
    said = retrieved(target, len(corpus))
    at = 0
    for message in corpus:
        at = said.index(b"\r\n", at) + 2
        end = said.index(b"\r\n.\r\n", at - 2) + 2
        assert b"\r\n" + said[at:end] == (b"\r\n" + in_lines(message)).replace(b"\r\n.", b"\r\n..")
        at = end + 3


def in_lines(message):
    """The only form in which POP3 can say it: each line ended by CRLF, the last one too (RFC 1939 §3)."""
    lines = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return lines + (b"" if lines.endswith(b"\r\n") else b"\n" if lines.endswith(b"\r") else b"\r\n")


def retrieved(target, count):
    """What POP3 says to one RETR after the other, the first answer's line included."""
    with Client(target, "pop3") as client:
        client.smtp(b"USER alice@example.test")
        assert client.smtp(b"PASS secret").startswith(b"+OK")
        client.send(b"".join(b"RETR %d\r\n" % number for number in range(1, count + 1)) + b"QUIT\r\n")
        return client.rest()


def lmtp(target):
    client = Client(target, "lmtp")
    client.smtp(b"LHLO client.example.org")
    return client


def test_by_smtp_they_arrive_as_sent_or_are_refused_for_bare_line_ends(target, corpus):
    with unharmed(target):
        sent, client = [], lmtp(target)
        for message in corpus:
            client.send(b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
            assert [client.reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
            ended = message if message.endswith(b"\r\n") else message + b"\r\n"
            client.send((b"\r\n" + ended).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
            reply = client.reply()[:9]
            if not BARE.search(ended):
                assert reply == b"250 2.0.0"
                sent.append(ended)
                continue
            assert reply == b"550 5.6.0"
            client.close()  # before there are too many errors
            client = lmtp(target)
        client.close()
        assert sent
        arrived = inbox(target)
        assert len(arrived) == len(sent)
        for message, original in zip(arrived, sent, strict=True):
            assert message.endswith(original.replace(b"\0", b"\x80"))


def nested(depth):
    parts = [b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(depth)]
    return b"Subject: nested\r\n" + b"".join(parts) + b"\r\nhello\r\n"


GIANTS = {
    "10,000 multiparts in each other": nested(10_000),
    "10,000 messages in each other": b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"hello\r\n",
    "100,000 parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\n\r\nx\r\n" * 100_000
    + b"--b--\r\n",
    "100,000 fields": b"".join(b"X-F%d: %d\r\n" % (n, n) for n in range(100_000)) + b"\r\nhello\r\n",
    "a subject of 4 megabytes": b"Subject: " + b"x" * (4 * MEGABYTE) + b"\r\n\r\nhello\r\n",
    "200,000 folded lines": b"Subject: a\r\n" + b" b\r\n" * 200_000 + b"\r\nhello\r\n",
    "200,000 addresses": b"From: " + b"a@b, " * 200_000 + b"\r\n\r\nhello\r\n",
    "100,000 open comments": b"To: " + b"(" * 100_000 + b"\r\n\r\nhello\r\n",
    "100,000 open quotes": b"To: " + b'"\\' * 100_000 + b"\r\nCc: " + b"<" * 100_000 + b"\r\n\r\nhello\r\n",
    "100,000 encoded words": b"Subject: " + b"=?utf-8?q?=41?= " * 100_000 + b"\r\n\r\nhello\r\n",
    "half encoded words": b"Subject: " + b"=?utf-8?q?" * 100_000 + b"\r\n\r\nhello\r\n",
    "100,000 parameters": b"Content-Type: text/plain; " + b"a*0*=''%41; " * 100_000 + b"\r\n\r\nhello\r\n",
    "Received fields just less than a loop": b"Received: x\r\n" * 99 + b"\r\nhello\r\n",
}


@pytest.mark.parametrize("name", GIANTS)
def test_giants_are_delivered_and_read_in_bounded_memory(target, name):
    message = GIANTS[name]
    with unharmed(target, growth_bytes=60 * MEGABYTE):
        with Client(target, "smtp") as client:
            assert b"\r\n250 2.0.0 " in client.flood([BEGUN, message, b".\r\nQUIT\r\n"], seconds=10)
        with opened(target) as client:
            client.sock.settimeout(15)
            items = fetched(client.imap("FETCH 1 (ENVELOPE BODYSTRUCTURE)"))[1]
            check_envelope(items[b"ENVELOPE"])
            check_structure(items[b"BODYSTRUCTURE"])
            deep = ".".join(["1"] * 90)
            fetched(client.imap(f"FETCH 1 (BODY.PEEK[{deep}] BODY.PEEK[{deep}.MIME] BODY.PEEK[1.1.TEXT])"))
            items = fetched(client.imap("FETCH 1 (BODY.PEEK[HEADER.FIELDS (Subject To)] BODY.PEEK[])"))[1]
            body = items[b"BODY[]"]
            assert isinstance(body, bytes)
            assert body.endswith(message)
            for key in ("TEXT nowhere", "BODY nowhere", "FROM nowhere", "SUBJECT nowhere", "SENTSINCE 1-Jan-2020"):
                assert b"* SEARCH\r\n" in client.imap(f"SEARCH {key}")


@pytest.mark.parametrize("field", [b"Received: x\r\n", b"Received: x\r\nX-Seal: " + b"y" * 2000 + b"\r\n"])
def test_thousands_of_received_lines_are_a_loop_however_far_apart(target, field):
    """RFC 5321 §6.3."""
    with unharmed(target), Client(target, "smtp") as client:
        said = client.flood([BEGUN, field * 5000, b"\r\nhello\r\n.\r\nQUIT\r\n"])
    assert said.splitlines()[-2].startswith(b"554 5.4.6 Too many hops")
    assert inbox(target) == []


def test_a_10_megabyte_header_is_delivered_and_read(target):
    message = b"Subject: " + b"x" * (10 * MEGABYTE) + b"\r\n\r\nhello\r\n"
    with unharmed(target, growth_bytes=90 * MEGABYTE):
        with Client(target, "smtp") as client:
            assert b"\r\n250 2.0.0 " in client.flood([BEGUN, message, b".\r\nQUIT\r\n"], seconds=10)
        with opened(target) as client:
            assert b"OK FETCH" in client.imap("FETCH 1 (ENVELOPE)")[-30:]
            assert b"* SEARCH\r\n" in client.imap("SEARCH SUBJECT nowhere")


@pytest.mark.parametrize("command", [b"FETCH 1:* BODY.PEEK[]", b"FETCH 1 BODY.PEEK[1]"])
def test_a_client_that_goes_in_the_middle_of_a_large_message_is_missed_by_nobody(target, command):
    message = b"Subject: large\r\n\r\n" + (b"y" * 998 + b"\r\n") * 8000
    with Client(target, "smtp") as client:
        client.flood([BEGUN, message, b".\r\nQUIT\r\n"])
    with unharmed(target):
        for _ in range(10):
            client = opened(target)
            client.send(b"a " + command + b"\r\n")
            assert client.more()
            client.reset()


def test_the_index_is_left_whole(target):
    index = target.data / "mail" / "example.test" / "alice" / "posthouse.index"
    database = sqlite3.connect(index)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
