"""Message content: DATA and BDAT, the end of a message, and what must not be one."""

import pytest
from tests.smtp_sessions import Server, ready, with_recipient

from posthouse.base.errors import Reply
from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.smtp.body import IncomingBody
from posthouse.protocols.smtp.events import Chunk, DataStart, MessageEnd, Quit, Reset

SMUGGLED = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nfake\r\n.\r\n"


def codes(said: bytes) -> list[int]:
    """The code of each reply."""
    return [int(line[:3]) for line in said.splitlines() if line[3:4] == b" "]


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...a\r\n..\r\n..b\r\na.\r\n.\r\n", b"..a\r\n.\r\n.b\r\na.\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"nul \x00 and 8-bit \xe9\r\n.\r\n", b"nul \x00 and 8-bit \xe9\r\n"),
    ],
)
def test_dots_are_unstuffed_wherever_the_input_is_cut(sent: bytes, content: bytes) -> None:
    """RFC 5321 §4.5.2."""
    for cut in range(1, len(sent)):
        server = with_recipient()
        server.say(b"DATA\r\n")
        assert codes(server.say(sent[:cut], sent[cut:])) == [250]
        assert server.messages == [content]


def test_what_follows_the_end_of_a_message_is_the_next_command() -> None:
    server = with_recipient()
    server.say(b"DATA\r\n")
    assert codes(server.say(b"one\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")) == [250, 250, 250]


@pytest.mark.parametrize(
    "false_end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r.\n",
        b"\n.\r",
        b"\r\n.\r",
        b"\r\r\n.\r\r\n",
        b"\r\n\x00.\r\n\n",
        b"\r\n.\x00\n",
        b"\r\n.\r\x00\n",
        b"\r\n.\r\r\n",
        b"\n\n.\r\n",
        b"\r\n.\n\r\n",
        b"\x00\n.\r\n",
    ],
)
def test_no_false_end_of_data_smuggles_a_message(false_end: bytes) -> None:
    """SMTP smuggling, December 2023: CVE-2023-51764, -51765, -51766, and their relatives."""
    stream = b"text" + false_end + SMUGGLED
    for cut in range(1, len(stream)):
        server = with_recipient()
        server.say(b"DATA\r\n")
        assert codes(server.say(stream[:cut], stream[cut:])) == [550]
        assert server.events[-1] == Reset()
        assert server.messages == []


@pytest.mark.parametrize(
    "odd", [b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\r\n. \r\n", b"\x85.\x85", b"\xe2\x80\xa8.\r\n"]
)
def test_what_merely_resembles_an_end_is_content_and_the_message_stays_one(odd: bytes) -> None:
    server = with_recipient()
    server.say(b"DATA\r\n")
    assert codes(server.say(b"text" + odd + b"MAIL FROM:<evil@example.org>\r\n.\r\n")) == [250]
    assert server.messages == [b"text" + odd.replace(b"\r\n.", b"\r\n") + b"MAIL FROM:<evil@example.org>\r\n"]


def test_a_message_that_is_too_large_is_swallowed_and_refused_at_its_end() -> None:
    """RFC 1870 §6.3."""
    server = with_recipient(max_size_bytes=10_000)
    server.say(b"DATA\r\n")
    for _ in range(1000):
        assert server.say(b"x" * 998 + b"\r\n") == b""
    assert sum(len(event.data) for event in server.events if isinstance(event, Chunk)) <= 10_000
    assert server.events[-1] == Reset()
    assert server.say(b".\r\nMAIL FROM:<a@b>\r\n").startswith(b"552 5.3.4 ")
    assert codes(server.output)[-1] == 250


@pytest.mark.parametrize(("limit", "code"), [(1000, 250), (999, 552)])
def test_the_limit_is_that_of_the_content_without_its_stuffing(limit: int, code: int) -> None:
    """RFC 1870 §6: the message's octets, CRLFs counted, stuffed dots not."""
    server = with_recipient(max_size_bytes=limit)
    server.say(b"DATA\r\n")
    assert codes(server.say(b"...\r\n" * 250 + b".\r\n")) == [code]


def test_a_declared_size_beyond_the_limit_is_refused_at_mail() -> None:
    """RFC 1870 §6.1."""
    assert codes(ready(max_size_bytes=1000).say(b"MAIL FROM:<a@b> SIZE=1001\r\n")) == [552]
    assert codes(ready(max_size_bytes=1000).say(b"MAIL FROM:<a@b> SIZE=1000\r\n")) == [250]
    assert codes(ready().say(b"MAIL FROM:<a@b> SIZE=99999999999999999999\r\n")) == [250]


def test_large_bodies_come_in_large_chunks() -> None:
    server = with_recipient()
    server.say(b"DATA\r\n", b"0123456789abcd\r\n" * 65_536, b".\r\n")
    assert server.messages == [b"0123456789abcd\r\n" * 65_536]
    assert sum(isinstance(event, Chunk) for event in server.events) <= 20


def test_no_more_than_four_octets_are_held_back() -> None:
    body = IncomingBody(0, dotted=True)
    content = b"".join(body.dotted(bytes((octet,)))[0] for octet in b"abc\r\n.\r")
    assert content == b"abc"
    assert body.dotted(b"\n") == (b"\r\n", 0)


# BDAT


def test_the_simple_chunking_example_of_rfc_3030() -> None:
    """RFC 3030 §4.1."""
    server = with_recipient()
    message = b"From: a\r\n\r\n.\r\n..lots\r\n.\r\n"
    assert codes(server.say(b"BDAT %d LAST\r\n" % len(message) + message)) == [250]
    assert server.meaning() == [DataStart(), Chunk(message), MessageEnd()]


def test_pipelined_chunks_are_one_message() -> None:
    """RFC 3030 §4.2; a CRLF may stand across chunks."""
    server = with_recipient()
    said = server.say(b"BDAT 4\r\none\rBDAT 5\r\n\ntwo\rBDAT 1 LAST\r\n\nNOOP\r\n")
    assert codes(said) == [250, 250, 250, 250]
    assert server.messages == [b"one\r\ntwo\r\n"]


def test_an_empty_last_chunk_ends_the_message() -> None:
    server = with_recipient()
    assert codes(server.say(b"BDAT 5\r\nabc\r\nBDAT 0 LAST\r\n")) == [250, 250]
    assert server.messages == [b"abc\r\n"]


def test_a_chunk_may_hold_what_looks_like_commands() -> None:
    server = with_recipient()
    assert codes(server.say(b"BDAT %d LAST\r\n" % len(SMUGGLED) + SMUGGLED)) == [250]
    assert server.messages == [SMUGGLED]


@pytest.mark.parametrize("content", [b"bare\nlf", b"bare\rcr", b"at the end\r", b"\r\n.\n"])
def test_bare_newlines_are_refused_in_chunks_too(content: bytes) -> None:
    """RFC 3030 §3: only BINARYMIME, which is not offered, may have them."""
    for cut in range(1, len(content)):
        server = with_recipient()
        said = server.say(b"BDAT %d\r\n" % cut + content[:cut])
        rest = content[cut:]
        said += server.say(b"BDAT %d LAST\r\n" % len(rest) + rest)
        assert 550 in codes(said)
        assert server.messages == []
        assert server.events.count(Reset()) == 1
        assert codes(server.say(b"MAIL FROM:<a@b>\r\n")) == [250]


@pytest.mark.parametrize(
    ("before", "code"),
    [
        (b"NOOP\r\n", 503),
        (b"EHLO a\r\n", 503),
        (b"EHLO a\r\nMAIL FROM:<a@b>\r\n", 554),
        (b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@b>\r\n", 554),
    ],
)
def test_a_chunk_out_of_place_is_swallowed_before_it_is_refused(before: bytes, code: int) -> None:
    """RFC 3030 §2: the octets are sent whatever we think of them."""
    server = Server()
    server.say(before)
    server.events.clear()
    assert codes(server.say(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")) == [code, 250]
    assert server.events == []


def test_a_chunk_after_a_failed_one_is_refused() -> None:
    """RFC 3030 §2."""
    server = with_recipient(max_size_bytes=5)
    assert codes(server.say(b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")) == [552, 503, 250]
    assert server.messages == []


def test_a_chunk_that_claims_exabytes_is_swallowed_in_bounded_memory() -> None:
    server = with_recipient(max_size_bytes=1000)
    server.say(b"BDAT 9999999999999999999\r\n")
    for _ in range(100):
        assert server.say(b"x" * 50_000) == b""
    assert len(server.engine._buffer) == 0
    assert [type(event) for event in server.events] == [DataStart, Reset]


@pytest.mark.parametrize("argument", [b"", b"x", b"-1", b"1 2", b"1 LAST x", b"123456789012345678901", b"1,5", b"+1"])
def test_a_chunk_of_unknown_size_ends_the_session(argument: bytes) -> None:
    """Nobody knows where its octets end and the next command begins."""
    server = with_recipient()
    assert codes(server.say(b"BDAT " + argument + b"\r\n" + SMUGGLED)) == [501]
    assert server.events == [Quit("BDAT of unknown size")]


@pytest.mark.parametrize("command", [b"DATA", b"MAIL FROM:<a@b>", b"RCPT TO:<c@b>"])
def test_between_chunks_there_is_no_other_transaction_command(command: bytes) -> None:
    """RFC 3030 §2: DATA and BDAT can't be mixed."""
    server = with_recipient()
    assert codes(server.say(b"BDAT 3\r\nabc" + command + b"\r\nBDAT 2 LAST\r\n\r\n")) == [250, 503, 250]
    assert server.messages == [b"abc\r\n"]


def test_rset_between_chunks_drops_the_message() -> None:
    server = with_recipient()
    assert codes(server.say(b"BDAT 3\r\nabcRSET\r\nBDAT 0 LAST\r\n")) == [250, 250, 503]
    assert server.events == [DataStart(), Chunk(b"abc"), Reset()]


def test_a_refusal_of_the_first_chunk_comes_after_its_octets() -> None:
    server = with_recipient()
    server.engine.receive(b"BDAT 6 LAST\r\nQUI")
    assert server.engine.next_event() == DataStart()
    server.engine.reply(Reply(451, "4.3.1", "Disk full"))
    assert server.engine.next_event() is NEED_DATA
    assert server.engine.data_to_send() == b""
    assert codes(server.say(b"T\r\nNOOP\r\n")) == [451, 250]


def test_empty_chunks_without_end_end_the_session() -> None:
    server = with_recipient(max_errors=5, max_idle_commands=10)
    server.say(b"BDAT 0\r\n" * 100)
    assert server.engine.closed


def test_lmtp_answers_the_last_chunk_for_each_recipient() -> None:
    server = ready(lmtp=True)
    server.say(b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\n")
    assert codes(server.say(b"BDAT 3\r\nabcBDAT 2 LAST\r\n\r\n")) == [250, 250, 250]
