"""Servers that do what none should: each has a defined answer, within the time limits."""

import asyncio
import os
from dataclasses import replace

import pytest
from tests.unit.outbound.test_couriers import (
    BOB,
    CAROL,
    CLOSE,
    EHLO,
    HANG,
    PATIENT,
    SHORT,
    WITH_BDAT,
    WITH_TLS,
    Server,
    codes,
    courier,
    deliver,
    make_message,
    several,
)

from posthouse.mailqueue.courier import Deferred, Delivered, Failed
from posthouse.outbound.security import opportunistic_tls

VERBS = ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END"]


@pytest.fixture
def message(tmp_path):
    return make_message(tmp_path)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "answer",
    [
        b"2" * 1_000_000 + b"\r\n",
        b"250-more\r\n" * 100_000,
        b"\0" * 100_000 + b"\r\n",
        b"421 4.3.2 going down\r\n",
        b"250-ok\r\n550 5.0.0 no\r\n",
        CLOSE,
    ],
    ids=["1 MB line", "no end", "NULs", "421", "two codes", "closes"],
)
def test_nonsense_in_any_state_makes_the_mail_wait(message, verb, answer):
    """RFC 5321 §4.2.4.2: nothing of this says that the message can't be delivered."""
    ((kind, _),) = codes(deliver(Server(**{verb: answer}), message, timeouts=SHORT))
    assert kind is Deferred


def test_recipients_have_their_own_replies_of_every_kind(message):
    """RFC 5321 §4.2.1, in one session."""
    people = [replace(BOB, address=f"u{number}@d.example") for number in range(4)]
    server = Server(RCPT=[b"250 ok\r\n", b"450 4.2.1 busy\r\n", b"550 5.1.1 nobody\r\n", b"251 5.0.0 elsewhere\r\n"])
    assert codes(deliver(server, message, people)) == [
        (Delivered, 250),
        (Deferred, 450),
        (Failed, 550),
        (Delivered, 250),
    ]


def test_a_server_that_never_reads_is_given_up(tmp_path):
    """It says 354 and reads no more: what the kernel does not take any more is not waited for without end."""

    async def go():
        writers = []

        async def talk(reader, writer):
            writers.append(writer)
            writer.transport.get_extra_info("socket").setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
            for answer in (b"220 x\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"):
                writer.write(answer)
                await reader.readline()
            writer.transport.pause_reading()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        smtp = courier(server.sockets[0].getsockname()[1], timeouts=replace(SHORT, block=0.2))
        outcomes = await smtp.deliver(make_message(tmp_path, b"x\r\n" * 6_000_000), [BOB], "d.example")
        await smtp.close()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)
        return outcomes

    assert codes(asyncio.run(asyncio.wait_for(go(), 20))) == [(Deferred, 451)]


@pytest.mark.parametrize("ehlo", [EHLO, WITH_BDAT], ids=["DATA", "BDAT"])
def test_a_server_that_says_250_twice_to_a_message_hides_no_refusal_of_the_next(message, ehlo):
    twice = [b"250 2.0.0 taken\r\n250 2.0.0 taken\r\n", b"554 5.7.1 spam\r\n"]
    server = Server(EHLO=ehlo, END=twice, BDAT=twice)
    first, second = several(server, message)
    assert isinstance(first, Delivered)
    assert not isinstance(second, Delivered)


def test_replies_before_their_commands_deliver_nothing_without_the_message(message):
    """Everything at once at the greeting: the commands get these, and what they get besides breaks the session."""
    server = Server(GREETING=b"220 x\r\n" + EHLO + b"250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n")
    ((kind, _),) = codes(deliver(server, message, timeouts=replace(PATIENT, quit=0.1)))
    assert kind in (Deferred, Delivered)
    assert kind is Deferred or server.bodies


@pytest.mark.parametrize("answer", [b"220 go\r\n", HANG, CLOSE, b"220 go\r\n250 injected\r\n", b"501 no\r\n"])
def test_starttls_that_is_offered_and_broken_costs_one_more_connection_at_most(message, answer):
    server = Server(EHLO=WITH_TLS, STAR=answer)
    assert codes(deliver(server, message, tls=opportunistic_tls(), timeouts=SHORT)) == [(Delivered, 250)]
    assert server.connections <= 2


def test_different_sessions_may_say_different_things(message):
    server = Server(RCPT=[b"550 5.1.1 nobody\r\n", b"250 ok\r\n"], GREETING=[b"220 x\r\n", b"554 5.3.2 no\r\n"])
    assert codes(several(server, message, idle_limit=0)) == [(Failed, 550), (Failed, 554)]


SMUGGLED = b"MAIL FROM:<evil@x.example>"


@pytest.mark.parametrize("ehlo", [EHLO, WITH_BDAT], ids=["DATA", "BDAT"])
@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n", b"\r\n\0.\r\n",
        b"\r\n.\0\r\n", b"\r\r\n.\r\r\n", b"\r\n..\r\n", b"\r\n.\r\n", b"\n\n.\n\n",
    ],
)  # fmt: skip
def test_nothing_in_a_queued_message_ends_it_at_the_next_hop(tmp_path, ehlo, end):
    """However it got into the queue: SMTP smuggling in the outgoing direction."""
    text = b"Subject: x\r\n\r\nbody" + end + SMUGGLED + b"\r\nRCPT TO:<b@x.example>\r\nDATA\r\nx\r\n"
    server = Server(EHLO=ehlo)
    assert codes(deliver(server, make_message(tmp_path, text))) == [(Delivered, 250)]
    (body,) = server.bodies
    assert SMUGGLED in body
    assert not any("evil" in command for command in server.commands)
    assert body.count(b"\n") == body.count(b"\r\n") == body.count(b"\r")
    if ehlo is EHLO:
        assert body.count(b"\r\n.\r\n") == 1


@pytest.mark.parametrize("ehlo", [EHLO, WITH_BDAT], ids=["DATA", "BDAT"])
def test_octets_of_every_kind_arrive_as_they_are(tmp_path, ehlo):
    text = b"Subject: \xff\xfe\0\x80 x\r\nX-\xe4: y\r\n\r\n" + bytes(set(range(256)) - {10, 13}) + b"\r\n"
    server = Server(EHLO=ehlo)
    assert codes(deliver(server, make_message(tmp_path, text))) == [(Delivered, 250)]
    assert server.bodies[0].removesuffix(b".\r\n") == text


def test_a_line_of_ten_megabytes_arrives_whole(tmp_path):
    """RFC 5322 §2.1.1 forbids it; breaking it would break signatures, and most servers take it."""

    class Counting(Server):
        async def talk(self, reader, writer):
            reader._limit = 2**25
            await super().talk(reader, writer)

    server = Counting(EHLO=EHLO.replace(b"1000000", b"0"))
    text = b"Subject: x\r\n\r\n" + b"y" * 10_000_000 + b"\r\n"
    assert codes(deliver(server, make_message(tmp_path, text))) == [(Delivered, 250)]
    assert server.bodies[0] == text + b".\r\n"


@pytest.mark.parametrize(
    ("envelope", "mail"),
    [
        ({}, ""),
        ({"body": "8BITMIME"}, " BODY=8BITMIME"),
        ({"smtputf8": True}, " SMTPUTF8"),
        ({"smtputf8": True, "body": "8BITMIME"}, " BODY=8BITMIME SMTPUTF8"),
    ],
)
def test_smtputf8_and_8bitmime_are_said_where_the_message_came_with_them(tmp_path, envelope, mail):
    """RFC 6531 §3.4, RFC 6152 §3"""
    server = Server(EHLO=b"250-mx.example\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
    assert codes(deliver(server, make_message(tmp_path, **envelope))) == [(Delivered, 250)]
    assert f"MAIL FROM:<alice@example.test>{mail}" in server.commands


UTF8_BODY = "Subject: hi\r\n\r\nb\u00f6dy\r\n".encode()
LONG_HEADER = b"X: y\r\n" * 60_000


@pytest.mark.parametrize("text", [b"Subject: hi\r\n\r\nbody\r\n", UTF8_BODY, b"Subject: hi\r\n", b""])
def test_what_only_came_with_smtputf8_goes_without_it_where_that_is_lacking(tmp_path, text):
    """RFC 6531 §3.2: neither envelope nor header needs it."""
    server = Server(EHLO=b"250-mx.example\r\n250 8BITMIME\r\n")
    message = make_message(tmp_path, text, smtputf8=True, body="8BITMIME")
    assert codes(deliver(server, message)) == [(Delivered, 250)]
    assert "MAIL FROM:<alice@example.test> BODY=8BITMIME" in server.commands
    assert server.bodies == [text + b".\r\n"]


@pytest.mark.parametrize(
    "text",
    ["Subject: h\u00ef\r\n\r\nbody\r\n".encode(), b"A: b\r\nX-\xe4: y", LONG_HEADER + UTF8_BODY],
    ids=["header", "unfinished header", "long header"],
)
def test_a_header_that_needs_smtputf8_is_returned_where_that_is_lacking(tmp_path, text):
    server = Server()
    (outcome,) = deliver(server, make_message(tmp_path, text, smtputf8=True))
    assert (type(outcome), outcome.reply.status, server.bodies) == (Failed, "5.6.7", [])


def test_an_address_that_is_not_ascii_is_returned_where_smtputf8_is_lacking(tmp_path):
    """RFC 6531 §3.2: other recipients of the message are not."""
    message = make_message(tmp_path, smtputf8=True)
    cyril = replace(CAROL, address="c\xe4rol@d.example")
    for people in ([cyril, BOB], [BOB, cyril, CAROL], [cyril]):
        server = Server()
        outcomes = deliver(server, message, people)
        expected = [(Failed, 550) if one is cyril else (Delivered, 250) for one in people]
        assert (codes(outcomes), len(server.bodies)) == (expected, len(people) > 1)
    server = Server()
    assert codes(deliver(server, replace_sender(message, "\xe4lice@example.test"))) == [(Failed, 550)]
    assert (server.bodies, os.path.exists(message.path)) == ([], True)


def replace_sender(message, sender):
    return replace(message, envelope=replace(message.envelope, sender=sender))
