"""What the benchmark's figures rest on: the client's reading of replies, and which way a ratio goes."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from bench.corpus import Corpus
from bench.load import Dialogue, Load, imap_status, pop3_status, smtp_status
from bench.pop3 import Pop3
from bench.table import Row, Table


def test_smtp_reply_of_several_lines_is_whole_with_its_last_line():
    """RFC 5321 §4.2.1."""
    assert smtp_status(b"250-one\r\n250-two\r\n") == b""
    assert smtp_status(b"250-one\r\n250 tw") == b""
    assert smtp_status(b"250-one\r\n250 two\r\n") == b"250 two\r\n"


def test_imap_reply_is_whole_with_its_tagged_line():
    assert imap_status(b"* CAPABILITY IMAP4rev1\r\n") == b""
    assert imap_status(b"* CAPABILITY IMAP4rev1\r\na OK done\r\n") == b"a OK done\r\n"


@pytest.mark.parametrize(("better", "ratio"), [("more", 4.0), ("less", 0.25)])
def test_ratio_above_one_means_that_ours_is_better(better, ratio):
    table = Table()
    row = Row("deeds", "1/s", better)
    for figure in (100.0, 400.0, 1_000.0):
        table.add("Part", row, figure)
    table.add("Part", row, 100.0, peer="Other")
    assert table.data()[0]["ratio"] == ratio


def test_target_is_marked_reached_or_missed():
    table = Table()
    table.add("Part", Row("deeds", "1/s", "more", 3.5), 350.0)
    table.add("Part", Row("deeds", "1/s", "more", 3.5), 100.0, peer="Other")
    table.add("Part", Row("words", "1/s", "more", 3.5), 349.0)
    table.add("Part", Row("words", "1/s", "more", 3.5), 100.0, peer="Other")
    deeds, words = (line for line in table.text().splitlines() if "1/s" in line)
    assert "reached" in deeds
    assert "MISSED" in words
    assert "Other" in table.text()


def test_corpus_is_the_same_each_time():
    first, second = Corpus(), Corpus()
    assert [first.message(n) for n in range(30)] == [second.message(n) for n in range(30)]
    assert b"zephyrine" in first.message(113).split(b"\n\n")[0]
    assert b"quicksilverish" in first.message(141)


def test_pop3_listing_ends_at_its_dot_wherever_it_is_split():
    """RFC 1939 §3: the end may come in any number of pieces."""
    answers = b"+OK\r\nfirst\r\n.\r\n+OK\r\n.\r\n+OK\r\n..not yet\r\n.\r\n"

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"+OK\r\n")
        connection.recv(100)
        for octet in answers:
            connection.sendall(bytes((octet,)))
        connection.recv(100)
        connection.sendall(b"+OK\r\n")

    with _serving(serve) as port:
        pop = Pop3(port)
        assert pop.listing(b"RETR 1", b"RETR 2", b"RETR 3") == len(answers)
        pop.quit()


def test_load_counts_what_was_done_and_says_what_was_not():
    """Every second session is turned away after its greeting."""
    turns = iter(range(1_000_000))

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"+OK\r\n")
        connection.recv(100)
        if next(turns) % 2:
            connection.sendall(b"-ERR no\r\n")
            return
        connection.sendall(b"+OK\r\n")
        connection.recv(100)

    with _serving(serve) as port:
        dialogue = Dialogue(b"+OK", (), [((b"ONE\r\n", b"+OK"),), ((b"TWO\r\n", b"+OK"),)], b"QUIT\r\n", pop3_status)
        outcome = Load(port, dialogue, sessions=1, seconds=30.0).run()
    assert outcome.failures == 101
    assert outcome.first_failure == repr(b"-ERR no\r\n")
    assert outcome.counts == [101, 0]
    assert outcome.done == 101


@contextmanager
def _serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server for one connection after the other; ``serve`` is called with each, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, serve))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(10)
            try:
                serve(connection)
            except OSError:
                pass
