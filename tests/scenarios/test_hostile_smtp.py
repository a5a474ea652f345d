"""SMTP, submission and LMTP of a whole server under attack: too long, too many, too large, not SMTP at all."""

import random
import socket
import time

import pytest
from tests.hostile import MEGABYTE, Client, inbox, running, unharmed

MAX_SIZE = 2 * MEGABYTE
BLOCK = b"x" * MEGABYTE
HELLO = {
    "smtp": b"EHLO client.example.org\r\n",
    "submission": b"EHLO client.example.org\r\n",
    "lmtp": b"LHLO c.org\r\n",
}
TRANSACTION = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<alice@example.test>\r\n"
BEGUN = HELLO["smtp"] + TRANSACTION
SERVICES = pytest.mark.parametrize("service", ["smtp", "submission", "lmtp"])


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    yield from running(tmp_path_factory.mktemp("smtp"), f"[smtp]\nmax_size_bytes = {MAX_SIZE}\n")


def attack(target, service, *pieces, hello=True):
    """Send it all without waiting; the lines that come back, the hello's left out."""
    with unharmed(target), Client(target, service) as client:
        if hello:
            client.smtp(HELLO[service].strip())
        return client.flood(pieces).splitlines()


@SERVICES
def test_a_line_of_50_megabytes_is_refused_at_its_limit(target, service):
    said = attack(target, service, *[BLOCK] * 50)
    assert said in ([], [b"500 5.5.6 Line too long"])  # the reset may overtake the reply


@SERVICES
def test_random_octets_end_the_session_with_too_many_errors(target, service):
    said = attack(target, service, random.Random(service).randbytes(MEGABYTE), hello=False)
    assert all(line[:3] in (b"500", b"503", b"501", b"502") for line in said[:-1])
    assert not said or said[-1].startswith((b"421 ", b"500 5.5.6", b"500 5.5.2"))


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"CONNECT mail:25 HTTP/1.1"])
@SERVICES
def test_a_browser_is_sent_away_before_its_body_is_read(target, service, request_line):
    body = HELLO[service] + TRANSACTION + b"DATA\r\nSubject: from a form\r\n\r\n.\r\n"
    said = attack(target, service, request_line + b"\r\nHost: mail\r\n\r\n" + body, hello=False)
    assert said in ([], [b"421 4.7.0 This is a mail server, closing connection"])
    assert inbox(target) == []


@pytest.mark.parametrize(("service", "address"), [("smtp", b"alice"), ("lmtp", b"alice"), ("lmtp", b"nobody")])
def test_100000_recipients_are_counted_and_not_kept(target, service, address):
    recipients = b"RCPT TO:<%b@example.test>\r\n" % address * 100_000
    said = attack(target, service, b"MAIL FROM:<a@example.org>\r\n", recipients, b"QUIT\r\n")
    codes = [line[:9] for line in said]
    assert len(codes) == 100_002
    if address == b"nobody":
        assert codes.count(b"550 5.1.1") == 100_000
    else:
        assert codes.count(b"250 2.1.5") == 1000
        assert codes.count(b"452 4.5.3") == 99_000


def test_recipients_that_are_guessed_end_the_session(target):
    guesses = b"".join(b"RCPT TO:<guess%d@example.test>\r\n" % number for number in range(100_000))
    said = attack(target, "smtp", b"MAIL FROM:<a@example.org>\r\n", guesses)
    assert len(said) <= 22


def test_a_message_is_too_large_by_its_announcement(target):
    said = attack(target, "smtp", b"MAIL FROM:<a@example.org> SIZE=%d\r\nQUIT\r\n" % (MAX_SIZE + 1))
    assert said[0].startswith(b"552 5.3.4")


def test_a_message_is_too_large_in_data_and_the_session_goes_on_after_its_end(target):
    body = [b"Subject: large\r\n\r\n", *[BLOCK] * 50, b"\r\n.\r\n"]
    said = attack(target, "smtp", TRANSACTION + b"DATA\r\n", *body, b"NOOP\r\nQUIT\r\n")
    assert [line[:3] for line in said] == [b"250", b"250", b"354", b"552", b"250", b"221"]
    assert inbox(target) == []


def test_a_message_is_too_large_in_chunks_and_their_octets_are_no_commands(target):
    chunk = b"BDAT %d\r\n" % MEGABYTE + b"QUIT\r\n" * (MEGABYTE // 6) + bytes(MEGABYTE % 6)
    said = attack(target, "smtp", TRANSACTION, *[chunk] * 3, b"NOOP\r\nQUIT\r\n")
    assert [line[:3] for line in said] == [b"250", b"250", b"250", b"250", b"552", b"250", b"221"]
    assert inbox(target) == []


@pytest.mark.parametrize("size", [4_294_967_295, 2**63, 10**19])
def test_a_chunk_that_claims_gigabytes_costs_nothing(target, size):
    said = attack(target, "smtp", TRANSACTION, b"BDAT %d LAST\r\n" % size, *[BLOCK] * 20)
    assert [line[:3] for line in said] == [b"250", b"250"]
    assert inbox(target) == []


@pytest.mark.parametrize("argument", [b"", b"-1", b"1e3", b"0x10", b"9" * 4000, b"5 LAST LAST", b"5 FIRST"])
def test_a_chunk_of_unknown_size_ends_the_session(target, argument):
    said = attack(target, "smtp", TRANSACTION, b"BDAT " + argument + b"\r\nMAIL FROM:<b@example.org>\r\n")
    assert said[2:] in ([], [b"501 5.5.4 Syntax: BDAT size [LAST]"])


@pytest.mark.parametrize(("chunk", "count"), [(b"BDAT 1\r\ny", 100_000), (b"BDAT 0\r\n", 100_000)])
def test_chunks_without_end_are_bounded(target, chunk, count):
    attack(target, "smtp", TRANSACTION, *[chunk * 10_000] * (count // 10_000))
    assert inbox(target) == []


@pytest.mark.parametrize("service", ["smtp", "submission"])
@pytest.mark.parametrize(
    "words",
    [
        b"AUTH PLAIN " + b"A" * 65_536,
        b"AUTH PLAIN\r\n" + b"A" * 65_536,
        b"AUTH PLAIN\r\n\0\0\0\0",
        b"AUTH PLAIN AAAA",
        b"AUTH PLAIN AAAAAA==",
        b"AUTH PLAIN /w==",
        b"AUTH PLAIN =",
        b"AUTH PLAIN \xff\xfe",
        b"AUTH LOGIN\r\n====\r\n",
        b"AUTH LOGIN\r\n*",
        b"AUTH LOGIN\r\nAAAA\r\nAAAA",
        b"AUTH SCRAM-SHA-256 biws",
        b"AUTH SCRAM-SHA-256 biwsbj1hLHI9\r\nYz1iaXdzLHI9LHA9",
        b"AUTH SCRAM-SHA-256 " + b"biwsbj0" * 1000,
        b"AUTH " + b"X" * 2000,
        b"AUTH",
    ],
)
def test_garbage_for_a_login_is_an_error_and_no_login(target, service, words):
    said = attack(target, service, words + b"\r\nRSET\r\nQUIT\r\n")
    assert all(line[:1] in b"2345" and not line.startswith(b"235") for line in said)
    assert not any(line.startswith(b"4") and not line.startswith(b"421") for line in said), said


BARE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\n.\r",
    b"\r\r\n.\r\r\n",
    b"\r\n\r.\r\n",
]
ODD_ENDS = [b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n \x08.\r\n", b"\x85.\x85", b"\r\n..\r\n", "\u2028.\u2028".encode()]
HIDDEN = TRANSACTION.replace(b"alice", b"bob") + b"DATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\nQUIT\r\n"


@pytest.mark.parametrize("end", [*BARE_ENDS, *ODD_ENDS])
def test_no_message_is_smuggled_behind_another(target, end):
    """CVE-2023-51764, -51765, -51766: one message arrives as a whole, or none does."""
    said = attack(target, "smtp", TRANSACTION + b"DATA\r\nSubject: outer\r\n\r\nx" + end + HIDDEN)
    arrived = inbox(target)
    assert inbox(target, "bob@example.test") == []
    assert [line[:3] for line in said] == [b"250", b"250", b"354", b"550" if end in BARE_ENDS else b"250", b"221"]
    assert len(arrived) == (end in ODD_ENDS)
    assert all(b"Subject: smuggled\r\n\r\nevil\r\n" in message for message in arrived)


def test_no_message_is_smuggled_by_an_octet_a_segment(target):
    """However the kernel puts the segments together, no read sees the whole of an end."""
    for end in [*BARE_ENDS, *ODD_ENDS]:
        with Client(target, "smtp") as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.send(BEGUN + b"DATA\r\nSubject: outer\r\n\r\nx")
            for at in range(len(end)):
                time.sleep(0.005)
                client.send(end[at : at + 1])
            codes = [line[:4] for line in client.flood([HIDDEN]).splitlines()]
        verdict = b"550 " if end in BARE_ENDS else b"250 "
        assert [code for code in codes if code != b"250-"] == [b"250 "] * 3 + [b"354 ", verdict, b"221 "], end
    assert inbox(target, "bob@example.test") == []
    assert len(inbox(target)) == len(ODD_ENDS)


@pytest.mark.parametrize("end", [*BARE_ENDS, *ODD_ENDS])
def test_bare_line_ends_in_chunks_are_refused_as_in_data(target, end):
    """RFC 3030 §3: only BINARYMIME, which is not offered, may have them, wherever the chunks end."""
    content = b"Subject: outer\r\n\r\nx" + end + HIDDEN
    middle = content.index(end) + len(end) // 2
    first, last = content[:middle], content[middle:]
    chunks = b"BDAT %d\r\n%bBDAT %d LAST\r\n%bQUIT\r\n" % (len(first), first, len(last), last)
    said = [line[:3] for line in attack(target, "smtp", TRANSACTION, chunks)]
    # Who sends a chunk after one that was refused hears so again.
    assert said[:2] + said[-1:] == [b"250", b"250", b"221"]
    assert said[2:-1] in ([[b"250", b"550"], [b"550", b"503"]] if end in BARE_ENDS else [[b"250", b"250"]])
    assert inbox(target, "bob@example.test") == []
    assert len(inbox(target)) == (end in ODD_ENDS)


def test_what_is_said_in_clear_after_starttls_is_never_heard(target):
    """RFC 3207 §4.2; the command injections of 2011 and 2021."""
    with unharmed(target), Client(target, "submission") as client:
        client.smtp(b"EHLO client.example.org")
        client.send(b"STARTTLS\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\nRSET\r\n")
        assert client.reply().startswith(b"220 ")
        try:
            client.start_tls()
        except OSError:
            pass  # what was pipelined was taken for TLS
        else:
            assert client.smtp(b"MAIL FROM:<alice@example.test>").startswith(b"503 ")
    with Client(target, "submission") as client:
        client.smtp(b"EHLO client.example.org")
        assert client.smtp(b"STARTTLS").startswith(b"220 ")
        client.start_tls()
        assert client.smtp(b"MAIL FROM:<alice@example.test>").startswith(b"503 ")
        client.smtp(b"EHLO client.example.org")
        assert client.smtp(b"MAIL FROM:<alice@example.test>").startswith(b"530 ")


@pytest.mark.parametrize("factor", [1, 4])
def test_work_is_linear_in_what_is_sent(target, factor):
    """Even four times the worst, a message of only dots and empty lines, has a generous limit."""
    body = b"..\r\n\r\n" * (60_000 * factor)
    start = time.monotonic()
    said = attack(target, "smtp", TRANSACTION + b"DATA\r\nSubject: dots\r\n\r\n", body, b".\r\nQUIT\r\n")
    assert said[-2][:3] == b"250"
    assert time.monotonic() - start < 10
    (message,) = inbox(target)
    assert message.endswith(b"\r\n\r\n" + b".\r\n\r\n" * (60_000 * factor))
