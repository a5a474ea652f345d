"""What must go on to another server as it came, whatever is in it: one message stays one, and each octet is kept.

10,000 recipients, or a thousand times as many as POSTHOUSE_TRANSACTIONS says (`make chaos`: 100,000).
"""

import os

import pytest
from tests.hostile import Client, inbox, running, unharmed
from tests.interop.sink import Sink
from tests.scenarios.flakysink import FlakySink
from tests.scenarios.test_queue_fairness import wait_until

ELSEWHERE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<x@elsewhere.test>\r\n"
HIDDEN = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@elsewhere.test>\r\nDATA\r\n\r\nevil\r\n"
TRANSACTIONS = int(os.environ.get("POSTHOUSE_TRANSACTIONS", "10"))
RECIPIENTS = 1000


@pytest.fixture(scope="module")
def sink():
    """A server that knows no extension."""
    with FlakySink("onward") as running_sink:
        running_sink.is_honest = True
        yield running_sink


@pytest.fixture(scope="module")
def pipelining_sink():
    with Sink() as running_sink:
        yield running_sink


@pytest.fixture(scope="module")
def target(tmp_path_factory, sink, pipelining_sink):
    relays = f'[smtp]\nmynetworks = ["127.0.0.0/8"]\nrelayhost = "[127.0.0.1]:{sink.port}"\n'
    for server in running(tmp_path_factory.mktemp("onward"), relays):
        server.cli("transport", "add", "many.test", f"smtp:[127.0.0.1]:{pipelining_sink.port}")
        yield server


def handed_in(target, *pieces):
    """Send it all without waiting; the codes of the replies, the hello's left out."""
    with Client(target, "smtp") as client:
        client.smtp(b"EHLO client.example.org")
        return [line[:3] for line in client.flood(pieces).splitlines()]


def goes_on(sink, content):
    """The one message that comes out, and nothing behind it."""
    wait_until(lambda: sink.deliveries)
    (delivery,) = sink.deliveries
    sink.deliveries.clear()
    assert delivery.data.endswith(content), delivery.data
    assert delivery.data.startswith(b"Received: ")


@pytest.mark.parametrize("end", [b"\r\n.\r\n", b"\r\n.\r\n.\r\n", b"\r\n..\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n"])
@pytest.mark.parametrize("sizes", ["one chunk", "an octet a chunk"])
def test_what_ends_a_message_in_data_is_content_in_a_chunk_and_stuffed_for_the_next_server(target, sink, end, sizes):
    content = b"Subject: outer\r\n\r\nx" + end + HIDDEN
    if sizes == "one chunk":
        chunks = [b"BDAT %d LAST\r\n" % len(content) + content]
    else:
        edge = content.index(end)
        pieces = [content[:edge], *(end[at : at + 1] for at in range(len(end))), content[edge + len(end) :]]
        chunks = [b"BDAT %d\r\n" % len(piece) + piece for piece in pieces] + [b"BDAT 0 LAST\r\n"]
    assert set(handed_in(target, ELSEWHERE, *chunks, b"QUIT\r\n")) == {b"250", b"221"}
    goes_on(sink, content)


@pytest.mark.parametrize("end", [b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n..\r\n", b"\x85.\x85"])
def test_what_resembles_an_end_stays_within_its_message(target, sink, end):
    content = b"Subject: outer\r\n\r\nx" + end + HIDDEN
    codes = handed_in(target, ELSEWHERE, b"DATA\r\n", content.replace(b"\r\n.", b"\r\n.."), b".\r\nQUIT\r\n")
    assert codes == [b"250", b"250", b"354", b"250", b"221"]
    goes_on(sink, content)


@pytest.mark.parametrize("body", [b"", b" BODY=8BITMIME"])
def test_octets_that_a_header_may_not_have_are_kept_here_and_onward(target, sink, body):
    """8-bit without SMTPUTF8, NUL, and names that are none: nobody is harmed, and a signature may cover them."""
    content = (
        b"From: J\xfcrgen <a@example.org>\r\nSubject: \xff\xfe \xe2\x82 \xed\xa0\x80\r\nX-N\xfcl: \0\r\n"
        b"\x80\x81: x\r\n\r\nb\xf6dy \0\r\n"
    )
    begin = ELSEWHERE.replace(b">\r\nRCPT", b">" + body + b"\r\nRCPT") + b"RCPT TO:<alice@example.test>\r\nDATA\r\n"
    with unharmed(target):
        assert handed_in(target, begin, content, b".\r\nQUIT\r\n") == [b"250"] * 3 + [b"354", b"250", b"221"]
        goes_on(sink, content)
        (message,) = inbox(target)
        assert message.endswith(content.replace(b"\0", b"\x80"))  # IMAP has no NUL (RFC 3501 §9: CHAR8)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(120 + 2 * TRANSACTIONS)
def test_many_recipients_over_many_transactions_go_on_in_bounded_memory(target, pipelining_sink):
    with unharmed(target, growth_bytes=60 * 1024 * 1024):
        for transaction in range(TRANSACTIONS):
            recipients = [b"RCPT TO:<u%d.%d@many.test>\r\n" % (transaction, number) for number in range(RECIPIENTS)]
            codes = handed_in(target, ELSEWHERE.partition(b"RCPT")[0], *recipients, b"DATA\r\n\r\nx\r\n.\r\nQUIT\r\n")
            assert codes == [b"250"] * (RECIPIENTS + 1) + [b"354", b"250", b"221"]
        wait_until(lambda: not any((target.data / "queue" / "messages").iterdir()))
    everybody = {
        f"<u{transaction}.{number}@many.test>" for transaction in range(TRANSACTIONS) for number in range(1000)
    }
    assert len(pipelining_sink.asked) == len(everybody)
    assert set(pipelining_sink.asked) == everybody
