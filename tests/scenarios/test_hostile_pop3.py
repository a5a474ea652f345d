"""POP3 of a whole server under attack."""

import random

import pytest
from tests.hostile import MEGABYTE, Client, running, unharmed

BLOCK = b"x" * MEGABYTE
LOGIN = b"USER alice@example.test\r\nPASS secret\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"y" * 998 + b"\r\n") * 8000


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    for server in running(tmp_path_factory.mktemp("pop3")):
        with Client(server, "imap") as client:
            client.imap("LOGIN alice@example.test secret")
            client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(LARGE), LARGE))
            assert b"a OK" in client.until(b"a ")
        yield server


def attack(target, *pieces):
    """Send it all without waiting; the lines that come back."""
    with unharmed(target), Client(target, "pop3") as client:
        return client.flood(pieces).splitlines()


@pytest.mark.parametrize("before", [b"", b"USER ", b"AUTH PLAIN\r\n", LOGIN + b"RETR "])
def test_a_line_of_50_megabytes_is_refused_at_its_limit(target, before):
    assert attack(target, before, *[BLOCK] * 50)[-1:] in ([], [b"-ERR Line too long"])


NONSENSE = [
    b"0",
    b"-1",
    b"2",
    b"99999999999999999999",
    b"1" * 200,
    b"one",
    b"",
    b"1 1 1",
    b"1.0",
    b"0x1",
    b"\xd9\xa1",
    b"\0",
]


@pytest.mark.parametrize("command", [b"RETR", b"DELE", b"LIST", b"UIDL", b"TOP"])
def test_numbers_of_messages_that_make_no_sense_are_errors(target, command):
    numbers = [number for number in NONSENSE if not (number == b"" and command in (b"LIST", b"UIDL"))]
    for start in range(0, len(numbers), 5):  # fewer than the errors that end a session
        some = numbers[start : start + 5]
        lines = [command + b" " + number + (b" 0" if command == b"TOP" else b"") for number in some]
        said = attack(target, LOGIN + b"\r\n".join([*lines, b"NOOP", b"QUIT", b""]))
        assert [line[:4] for line in said] == [b"+OK ", b"+OK "] + [b"-ERR"] * len(some) + [b"+OK ", b"+OK "]


@pytest.mark.parametrize("lines", [b"99999999999999", b"-1", b"9" * 300, b"", b"all"])
def test_top_of_more_lines_than_there_can_be_is_the_message_or_an_error(target, lines):
    said = attack(target, LOGIN + b"TOP 1 " + lines + b"\r\nQUIT\r\n")
    assert said[-1].startswith(b"+OK")
    assert len(said) == 4 or len(said) == 5 + LARGE.count(b"\r\n")


def test_10000_commands_are_answered(target):
    said = attack(target, LOGIN, b"NOOP\r\nSTAT\r\nUIDL 1\r\nLIST\r\n" * 2500, b"QUIT\r\n")
    assert len(said) == 2 + 2500 * 6 + 1
    assert not any(line.startswith(b"-ERR") for line in said)


def test_random_octets_end_the_session(target):
    said = attack(target, random.Random(3).randbytes(MEGABYTE))
    assert all(line.startswith(b"-ERR") for line in said)
    assert len(said) <= 11
    said = attack(target, b"".join(random.Random(n).randbytes(100) + b"\r\n" for n in range(10_000)))
    assert len(said) <= 11


LOGINS = [
    *(b"AUTH PLAIN AAAA", b"AUTH PLAIN ====", b"AUTH PLAIN\r\n\0\0", b"AUTH LOGIN\r\n*", b"AUTH " + b"X" * 3000),
    *(b"PASS x", b"AUTH PLAIN " + b"A" * 7000, b"USER \0\r\nPASS \0", b"USER \xff\r\nPASS \xff", b"APOP a b"),
    b"AUTH SCRAM-SHA-256 biws",
]


@pytest.mark.parametrize("words", LOGINS, ids=lambda words: ascii(words[:20]))
def test_garbage_for_a_login_is_an_error_and_no_login(target, words):
    said = attack(target, words + b"\r\nSTAT\r\nQUIT\r\n")
    assert said[-2].startswith(b"-ERR")
    assert said[-1].startswith(b"+OK")


def test_what_is_said_in_clear_after_stls_is_never_heard(target):
    """RFC 2595 §4."""
    with unharmed(target), Client(target, "pop3") as client:
        client.send(b"STLS\r\n" + LOGIN)
        assert client.line().startswith(b"+OK")
        try:
            client.start_tls()
        except OSError:
            return  # what was pipelined was taken for TLS
        assert client.smtp(b"STAT").startswith(b"-ERR")


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 5000"])
def test_a_client_that_goes_in_the_middle_of_a_message_leaves_the_maildrop_free(target, command):
    with unharmed(target):
        for _ in range(10):
            client = Client(target, "pop3")
            for line in LOGIN.splitlines():
                client.smtp(line)
            client.send(command + b"\r\n")
            assert client.more()
            client.reset()
    said = attack(target, LOGIN + b"STAT\r\nQUIT\r\n")  # waits for the lock
    assert said[2] == b"+OK 1 %d" % len(LARGE)
