"""Clients that say nothing, or not enough, or don't listen, or go: each is let go of, and nobody else notices."""

import contextlib
import time

import pytest
from tests.hostile import MEGABYTE, Client, inbox, running, unharmed

SECONDS = 2
TIMEOUTS = "".join(f"[{table}]\ntimeout_seconds = {SECONDS}\n" for table in ("smtp", "imap", "pop3"))
TRANSACTION = b"EHLO c.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<alice@example.test>\r\n"
STATES = [
    *(("smtp", b""), ("smtp", b"EHL"), ("smtp", TRANSACTION), ("smtp", TRANSACTION + b"DATA\r\nSubject: ha")),
    *(("smtp", TRANSACTION + b"BDAT 1000\r\nSubject"), ("smtp", b"EHLO c.org\r\nSTARTTLS\r\n"), ("lmtp", b"LH")),
    *(("submission", b"EHLO c.org\r\nAUTH PLAIN\r\n"), ("submissions", b"EHLO"), ("imap", b"a LOG"), ("imaps", b"")),
    *(("imap", b"a LOGIN alice@example.test {6}\r\nse"), ("imap", b"a AUTHENTICATE PLAIN\r\n")),
    *(("imap", b"a STARTTLS\r\n"), ("pop3s", b""), ("pop3", b"STLS\r\n")),
    ("imap", b"a LOGIN alice@example.test secret\r\nb SELECT INBOX\r\nc IDLE\r\n"),
    *(("imap", b"a LOGIN alice@example.test secret\r\nb APPEND INBOX {99}\r\nSub"), ("pop3", b"AUTH PLAIN\r\n")),
    *(("pop3", b"USER alice@example.test\r\nPASS secret\r\nRE"), ("imap", b"a LOGIN alice@example.test secret\r\n")),
]  # fmt: skip


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    yield from running(tmp_path_factory.mktemp("timing"), TIMEOUTS)


def test_whoever_falls_silent_is_let_go_in_every_state(target):
    start = time.monotonic()
    with unharmed(target):
        clients = [Client(target, service) for service, _ in STATES]
        for client, (_, said) in zip(clients, STATES, strict=True):
            client.send(said)
        for client in clients:
            client.rest()
            client.close()
    assert time.monotonic() - start < 5 * SECONDS + 10
    assert inbox(target) == []


SLOW = [
    (service, said)
    for service, said in STATES
    if service in ("smtp", "lmtp", "submission") and b"STARTTLS" not in said
]


def test_an_octet_now_and_then_keeps_no_session_alive_in_any_state(target):
    """RFC 5321 §4.5.3.2: what counts is the command, and the message at its rate, not the last octet."""
    start = time.monotonic()
    with unharmed(target):
        clients = [Client(target, service) for service, _ in SLOW]
        for client, (_, said) in zip(clients, SLOW, strict=True):
            client.send(said)
        alive = list(clients)
        while alive:
            assert time.monotonic() - start < 5 * SECONDS + 30
            alive = [client for client in alive if trickles(client)]
            time.sleep(SECONDS / 10)
        for client in clients:
            client.close()
    assert time.monotonic() - start > SECONDS / 2
    assert inbox(target) == []


def trickles(client) -> bool:
    """Sends one more octet; whether the server still listens."""
    try:
        client.sock.setblocking(False)
        while client.sock.recv(1000):
            pass
        return False
    except BlockingIOError:
        pass
    except OSError:
        return False
    try:
        client.sock.send(b"x")
        return True
    except OSError:
        return False


def test_connections_are_reset_in_every_state_without_a_trace(target):
    with unharmed(target):
        for _ in range(5):
            for service, said in STATES:
                client = Client(target, service)
                client.send(said)
                client.reset()
    assert inbox(target) == []


@pytest.mark.parametrize("service", ["smtp", "submissions", "imap", "pop3"])
def test_1000_connections_that_do_nothing_hold_up_nobody(target, service):
    implicit = service == "submissions"
    # OpenSSL takes 48 KB for a handshake that is awaited.
    with unharmed(target, growth_bytes=(100 if implicit else 30) * MEGABYTE):
        sockets = [target.connect(service) for _ in range(1000)]
        with Client(target, service) as client:
            assert client.greeting
        for sock in sockets:
            if not implicit:
                assert sock.recv(10)
            sock.close()


def test_what_clients_that_never_read_have_asked_for_is_not_kept_for_them(target):
    message = b"Subject: large\r\n\r\n" + (b"y" * 998 + b"\r\n") * 4000
    with Client(target, "imap") as client:
        client.imap("LOGIN alice@example.test secret")
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))
        client.until(b"a ")
    # They ask for 2.4 GB; a message as it is read may be held for each, in both forms of its line ends.
    with unharmed(target, growth_bytes=80 * MEGABYTE):
        deaf = []
        for _ in range(5):
            client = Client(target, "imap")
            client.send(b"a LOGIN alice@example.test secret\r\nb SELECT INBOX\r\n")
            client.send(b"".join(b"c%d FETCH 1 BODY.PEEK[]\r\n" % number for number in range(100)))
            deaf.append(client)
        reader = Client(target, "pop3")
        reader.send(b"USER alice@example.test\r\nPASS secret\r\n" + b"RETR 1\r\n" * 100)
        deaf.append(reader)
        # However much of this waits for them, Alice gets on with her mail.
        with Client(target, "imap") as client:
            client.imap("LOGIN alice@example.test secret")
            client.imap("SELECT INBOX")
            assert len(client.imap("FETCH 1 BODY.PEEK[]")) > len(message)
        for client in deaf:
            client.reset()
    inbox(target)


def test_a_client_that_never_reads_its_replies_is_not_read_either_and_let_go(target):
    """Replies to pipelined commands wait in bounded memory: then nothing more is taken, and the time runs out."""
    commands = b"EHLO c.org\r\n" * 100_000
    with unharmed(target):
        deaf = [Client(target, service) for service in ("smtp", "submission", "lmtp")]
        for client in deaf:
            client.sock.settimeout(5 * SECONDS + 30)
            with contextlib.suppress(ConnectionError):
                while True:
                    client.sock.sendall(commands)
            client.reset()


@pytest.mark.parametrize("service", ["submission", "smtp", "imap", "pop3"])
def test_garbage_instead_of_a_tls_handshake_ends_the_connection(target, service):
    ask = {"imap": b"a STARTTLS", "pop3": b"STLS"}.get(service, b"STARTTLS")
    with unharmed(target):
        for garbage in (b"\x16\x03\x01\x02\x00" + bytes(600), b"GET / HTTP/1.0\r\n\r\n", bytes(100_000)):
            with Client(target, service) as client:
                if service.startswith("s"):
                    client.smtp(b"EHLO c.org")
                client.send(ask + b"\r\n")
                assert client.line()[:3] in (b"220", b"a O", b"+OK")
                client.flood([garbage], finish=False)


@pytest.mark.parametrize("service", ["submissions", "imaps", "pop3s"])
def test_clear_text_where_tls_is_spoken_gets_no_answer(target, service):
    with unharmed(target):
        for words in (b"EHLO c.org\r\n", b"a LOGIN alice@example.test secret\r\n"):
            sock = target.connect(service)
            try:
                sock.sendall(words)
                assert sock.recv(1000)[:1] in (b"", b"\x15")  # at most a TLS alert
            except ConnectionError:
                pass
            sock.close()
