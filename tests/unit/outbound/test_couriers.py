"""outbound/smtp.py and outbound/lmtp.py, against servers on loopback that do as their script says."""

import asyncio
import contextlib
import os
import ssl
from dataclasses import replace

import pytest
import trustme

from posthouse.base.errors import Refused
from posthouse.mailqueue.courier import Deferred, Delivered, Failed
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.mailqueue.state import MessageState
from posthouse.message.envelope import Envelope, Recipient
from posthouse.outbound.lmtp import LmtpCourier
from posthouse.outbound.security import opportunistic_tls
from posthouse.outbound.session import Timeouts
from posthouse.outbound.smtp import SmtpCourier
from posthouse.runtime.resolver import NoSuchName, ResolverTryLater

TEXT = b"Subject: hi\r\n\r\n.dot\r\nbody\r\n"
BOB, CAROL = Recipient("bob@d.example"), Recipient("carol@d.example")
HANG = "say nothing more"
CLOSE = "close the connection"
SHORT = Timeouts(connect=1, greeting=0.1, tls=2, command=0.1, block=0.1, message_end=0.1, quit=0.1)
PATIENT = Timeouts(connect=5, greeting=5, tls=5, command=5, block=5, message_end=5, quit=5)
EHLO = b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 DSN\r\n"


class Server:
    """Speaks SMTP as its script tells: a verb's bytes, HANG, CLOSE, or a list of them for one time after another."""

    def __init__(self, tls=None, **script):
        self.script = {
            "GREETING": b"220 mx.example\r\n",
            "EHLO": EHLO,
            "LHLO": EHLO,
            "MAIL": b"250 2.1.0 ok\r\n",
            "RCPT": b"250 2.1.5 ok\r\n",
            "DATA": b"354 go\r\n",
            "END": b"250 2.0.0 taken\r\n",
            "BDAT": b"250 2.0.0 taken\r\n",
            "RSET": b"250 ok\r\n",
            "QUIT": b"221 bye\r\n",
        } | script
        self.tls = tls
        self.commands = []
        self.bodies = []
        self.connections = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.talk, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.writers = []
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def talk(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        self.reader = reader
        in_clear = writer.transport
        try:
            if not await self.say("GREETING", writer):
                return
            while line := await reader.readline():
                verb = line[:4].decode().upper().strip()
                self.commands.append(line.decode().strip())
                if verb == "STAR" and self.tls is not None:
                    writer.write(b"220 go\r\n")
                    await writer.start_tls(self.tls)
                elif not await self.say(verb, writer):
                    return
                elif verb == "BDAT":
                    self.bodies.append(await reader.readexactly(int(line.split()[1])))
                elif verb == "DATA" and self.said.startswith(b"354"):
                    self.bodies.append(await body(reader))
                    if not await self.say("END", writer):
                        return
        except (OSError, AttributeError, asyncio.IncompleteReadError):
            pass
        finally:
            # Python 3.11's writer stumbles over a client that goes away right after TLS has begun.
            writer._transport = writer.transport or in_clear
            writer.close()

    async def say(self, verb, writer):
        answer = self.script.get(verb, b"500 what?\r\n")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        self.said = answer
        if answer == HANG:
            await asyncio.Event().wait()
        if answer == CLOSE:
            return False
        writer.write(answer)
        return not answer.endswith(b"!")


async def body(reader):
    lines = []
    while not lines or lines[-1] != b".\r\n":
        lines.append(await reader.readline())
        if not lines[-1]:
            raise ConnectionResetError
    return b"".join(lines)


class Loopback:
    """A resolver in whose world d.example has the hosts that are given."""

    def __init__(self, *hosts):
        self.hosts = hosts

    async def mx(self, domain):
        return [(number, host) for number, host in enumerate(self.hosts)]

    async def addresses(self, host):
        if host == "nowhere":
            raise NoSuchName(host)
        return [host]

    async def txt(self, name):
        raise NoSuchName(name)

    async def ptr(self, address):
        raise NoSuchName(address)


@pytest.fixture
def message(tmp_path):
    return make_message(tmp_path)


def make_message(tmp_path, text=TEXT, **envelope):
    path = os.path.join(tmp_path, "message")
    with open(path, "wb") as file:
        file.write(b"{}\n" + text)
    envelope = Envelope("alice@example.test", (BOB, CAROL), "t1", **envelope)
    return QueuedMessage("t1", envelope, 0.0, len(text), MessageState([]), path, 3)


def courier(port, hosts=("127.0.0.1",), timeouts=PATIENT, **options):
    return SmtpCourier("us.example", Loopback(*hosts), port=port, timeouts=timeouts, **options)


def deliver(server, message, recipients=(BOB,), **options):
    async def go():
        async with server:
            smtp = courier(server.port, **options)
            try:
                return await smtp.deliver(message, recipients, "d.example")
            finally:
                await smtp.close()

    return asyncio.run(go())


def codes(outcomes):
    return [(type(outcome), outcome.reply.code) for outcome in outcomes]


def test_a_message_is_delivered_with_its_envelope_and_content(message):
    server = Server()
    (outcome,) = deliver(server, message)
    assert isinstance(outcome, Delivered)
    assert (outcome.remote, outcome.dsn_passed_on, str(outcome.reply)) == ("127.0.0.1", True, "250 2.0.0 taken")
    assert server.bodies == [b"Subject: hi\r\n\r\n..dot\r\nbody\r\n.\r\n"]
    assert server.commands == [
        "EHLO us.example",
        f"MAIL FROM:<alice@example.test> SIZE={len(TEXT)}",
        "RCPT TO:<bob@d.example>",
        "DATA",
        "QUIT",
    ]


class Failing(Loopback):
    """A resolver that knows everything once, and then only this."""

    def __init__(self, error):
        super().__init__("127.0.0.1")
        self.errors = [None, error]

    async def mx(self, domain):
        if error := self.errors.pop(0):
            raise error
        return await super().mx(domain)


@pytest.mark.parametrize(("error", "outcome"), [(NoSuchName("x"), Failed), (ResolverTryLater("x"), Deferred)])
def test_trouble_with_the_second_hundred_recipients_says_nothing_of_the_first(message, error, outcome):
    server = Server(QUIT=CLOSE, END=b"250 taken\r\n", MAIL=[b"250 ok\r\n", CLOSE])

    async def go():
        async with server:
            smtp = SmtpCourier("us.example", Failing(error), port=server.port, timeouts=PATIENT)
            try:
                people = [Recipient(f"u{number}@d.example") for number in range(101)]
                return await smtp.deliver(message, people, "d.example")
            finally:
                await smtp.close()

    assert [type(one) for one in asyncio.run(go())] == [Delivered] * 100 + [outcome]
    assert len(server.bodies) == 1


def test_a_large_message_is_streamed_whole(tmp_path):
    text = b"x" * 70 + b"\r\n"
    server = Server()
    (outcome,) = deliver(server, make_message(tmp_path, text * 13_000))
    assert isinstance(outcome, Delivered)
    assert server.bodies == [text * 13_000 + b".\r\n"]


def test_each_recipient_has_its_own_reply(message):
    server = Server(RCPT=[b"550 5.1.1 no such user\r\n", b"250 ok\r\n"])
    assert codes(deliver(server, message, (BOB, CAROL))) == [(Failed, 550), (Delivered, 250)]
    assert len(server.bodies) == 1


def test_more_recipients_than_a_server_must_take_go_in_several_transactions(message):
    """RFC 5321 §4.5.3.1.8"""
    server = Server()
    outcomes = deliver(server, message, [Recipient(f"u{number}@d.example") for number in range(250)])
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 250
    assert server.connections == 1
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"MAIL": b"451 4.3.0 later\r\n"}, (Deferred, 451)),
        ({"MAIL": b"550-5.7.1 we\r\n550 5.7.1 don't want you\r\n"}, (Failed, 550)),
        ({"DATA": b"554 5.5.1 no\r\n"}, (Failed, 554)),
        ({"END": b"452 4.3.1 full\r\n"}, (Deferred, 452)),
        ({"RCPT": b"421 4.3.2 going down\r\n"}, (Deferred, 421)),
        ({"END": CLOSE}, (Deferred, 451)),
        ({"MAIL": b"garbage\r\n"}, (Deferred, 451)),
        ({"MAIL": b"250" + b"x" * 100_000}, (Deferred, 451)),
        ({"MAIL": b"250-more\r\n" * 10_000}, (Deferred, 451)),
        ({"EHLO": b"250-X-MORE\r\n" * 10_000}, (Deferred, 451)),
        ({"EHLO": b"250 mx.example\r\n"}, (Delivered, 250)),
        ({"EHLO": b"500 no\r\n", "HELO": b"250 mx.example\r\n"}, (Delivered, 250)),
    ],
    ids=[
        "mail 4xx",
        "mail 5xx",
        "data 5xx",
        "end 4xx",
        "421",
        "closes",
        "garbage",
        "endless line",
        "endless reply",
        "endless EHLO",
        "bare",
        "helo",
    ],
)
def test_what_the_server_says_or_does_is_the_outcome(message, script, expected):
    assert codes(deliver(Server(**script), message)) == [expected]


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END"])
@pytest.mark.parametrize("answer", [HANG, b"25", b"250-half a line and wait"])
def test_a_server_that_falls_silent_is_given_up_after_the_time_limit(message, verb, answer):
    """RFC 5321 §4.5.3.2"""
    ((kind, code),) = codes(deliver(Server(**{verb: answer}), message, timeouts=SHORT))
    assert (kind, code) == (Deferred, 451)


def test_a_message_that_the_server_refuses_while_it_comes_is_refused(tmp_path):
    """The reply must not get lost because the connection breaks right after it."""

    async def go():
        async def talk(reader, writer):
            for answer in (b"220 x\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"):
                writer.write(answer)
                await reader.readline()
            writer.write(b"552 5.3.4 too big\r\n")
            await writer.drain()
            # Read on for as long as the client writes: otherwise the kernel's reset may overtake the reply.
            while await reader.read(65_536):
                pass
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        smtp = courier(server.sockets[0].getsockname()[1], timeouts=replace(PATIENT, quit=0.05))
        outcomes = await smtp.deliver(make_message(tmp_path, b"x\r\n" * 1_000_000), [BOB], "d.example")
        await smtp.close()
        server.close()
        return outcomes

    assert codes(asyncio.run(go())) == [(Failed, 552)]


def test_the_next_host_is_tried_when_one_does_not_answer(message):
    """127.0.0.2: nobody listens there on this port."""
    (outcome,) = deliver(Server(), message, hosts=("127.0.0.2", "127.0.0.1"))
    assert (type(outcome), outcome.remote) == (Delivered, "127.0.0.1")


@pytest.mark.parametrize("greeting", [b"421 4.3.2 not now\r\n", b"554 5.7.1 go away\r\n", CLOSE])
def test_the_next_host_is_tried_when_one_turns_us_away(message, greeting):
    server = Server(GREETING=[greeting, b"220 mx.example\r\n"])
    assert codes(deliver(server, message, hosts=("127.0.0.1", "localhost"))) == [(Delivered, 250)]
    assert server.connections == 2


def test_a_destination_where_nobody_answers_is_unreachable(message):
    async def go():
        async with Server() as server:
            port = server.port
        return await courier(port).deliver(message, [BOB, CAROL], "d.example")

    outcomes = asyncio.run(go())
    assert codes(outcomes) == [(Deferred, 451)] * 2
    assert all(outcome.unreachable and outcome.reply.status == "4.4.1" for outcome in outcomes)


@pytest.mark.parametrize(
    ("greetings", "expected"),
    [
        ([b"554 no\r\n", b"554 no\r\n"], (Failed, 554)),
        ([b"421 busy\r\n", b"554 no\r\n"], (Deferred, 421)),
    ],
)
def test_hosts_that_all_refuse_service_for_good_fail_and_one_that_may_serve_later_defers(
    message, greetings, expected
):
    server = Server(GREETING=greetings)
    assert codes(deliver(server, message, hosts=("127.0.0.1", "localhost"))) == [expected]


def test_a_destination_that_is_no_host_is_refused(message):
    with pytest.raises(Refused):
        asyncio.run(courier(25).deliver(message, [BOB], "[d.example"))


@pytest.fixture(scope="module")
def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.example").configure_cert(context)
    return context


WITH_TLS = b"250-mx.example\r\n250 STARTTLS\r\n"


def test_tls_is_used_where_it_is_offered(message, tls):
    server = Server(tls, EHLO=[WITH_TLS, EHLO])
    (outcome,) = deliver(server, message, tls=opportunistic_tls())
    assert isinstance(outcome, Delivered)
    assert [command[:8] for command in server.commands[:3]] == ["EHLO us.", "STARTTLS", "EHLO us."]
    assert server.connections == 1


def test_a_server_that_refuses_starttls_after_all_gets_the_message_in_clear(message):
    server = Server(EHLO=WITH_TLS, STAR=b"454 4.7.0 not now\r\n")
    (outcome,) = deliver(server, message, tls=opportunistic_tls())
    assert isinstance(outcome, Delivered)
    assert server.connections == 1


@pytest.mark.parametrize("answer", [b"220 go\r\nrubbish instead of TLS\r\n", CLOSE, HANG])
def test_where_tls_fails_a_new_connection_is_made_in_clear(message, answer):
    server = Server(EHLO=WITH_TLS, STAR=answer)
    (outcome,) = deliver(server, message, tls=opportunistic_tls(), timeouts=SHORT)
    assert isinstance(outcome, Delivered)
    assert server.connections == 2


def several(server, message, times=2, **options):
    async def go():
        async with server:
            smtp = courier(server.port, **options)
            outcomes = [outcome for _ in range(times) for outcome in await smtp.deliver(message, [BOB], "d.example")]
            await smtp.close()
            return outcomes

    return asyncio.run(go())


def test_a_session_is_used_again_for_the_next_message(message):
    server = Server()
    assert [type(outcome) for outcome in several(server, message, 3)] == [Delivered] * 3
    assert server.connections == 1
    assert server.commands.count("QUIT") == 1


def test_a_session_that_has_served_enough_is_ended(message):
    server = Server()
    several(server, message, 101)
    assert server.connections == 2


@pytest.mark.parametrize("answer", [CLOSE, b"421 4.4.2 you were idle\r\n!"])
def test_an_idle_session_that_the_server_has_ended_costs_a_connection_and_nothing_else(message, answer):
    server = Server(MAIL=[b"250 ok\r\n", answer, b"250 ok\r\n"])
    assert [type(outcome) for outcome in several(server, message)] == [Delivered] * 2
    assert server.connections == 2


def test_an_idle_session_is_ended_after_a_while(message):
    async def go(server):
        async with server:
            smtp = courier(server.port, idle_seconds=0.01)
            await smtp.deliver(message, [BOB], "d.example")
            while "QUIT" not in server.commands:
                await asyncio.sleep(0.005)
            await smtp.close()

    asyncio.run(asyncio.wait_for(go(Server()), 10))


def test_no_more_sessions_than_the_limit_are_kept(message):
    server = Server()
    several(server, message, 2, idle_limit=0)
    assert server.connections == 2


def test_a_cancelled_delivery_leaves_no_connection_behind(message):
    async def go():
        async with Server(END=HANG) as server:
            task = asyncio.create_task(courier(server.port).deliver(message, [BOB], "d.example"))
            while not server.bodies:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The server sees the end of the connection, or a reset.
            with contextlib.suppress(ConnectionError):
                assert await server.reader.read() == b""

    asyncio.run(asyncio.wait_for(go(), 10))


def test_lmtp_gives_each_recipient_its_own_reply_after_the_message(message):
    """RFC 2033 §4.2"""
    server = Server(END=b"250 2.0.0 stored\r\n452 4.2.2 full\r\n")

    async def go():
        async with server:
            lmtp = LmtpCourier("us.example", Loopback())
            outcomes = await lmtp.deliver(message, [BOB, CAROL], f"inet:127.0.0.1:{server.port}")
            await lmtp.close()
            return outcomes

    assert codes(asyncio.run(go())) == [(Delivered, 250), (Deferred, 452)]
    assert server.commands[0] == "LHLO us.example"


def test_lmtp_speaks_over_unix_sockets(message, tmp_path):
    async def go():
        server = Server()
        path = os.path.join(tmp_path, "lmtp")
        server.writers = []
        listening = await asyncio.start_unix_server(server.talk, path)
        lmtp = LmtpCourier("us.example", Loopback())
        outcomes = await lmtp.deliver(message, [BOB], f"unix:{path}")
        outcomes += await lmtp.deliver(message, [BOB], f"unix:{path}.none")
        await lmtp.close()
        listening.close()
        return outcomes

    assert codes(asyncio.run(go())) == [(Delivered, 250), (Deferred, 451)]


WITH_BDAT = b"250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n"


def test_a_small_message_arrives_in_one_piece_where_bdat_is_offered(message):
    """RFC 3030: nothing is waited for between EHLO and the last reply."""

    async def go():
        arrived = []

        async def talk(reader, writer):
            for answer in (b"220 x\r\n", WITH_BDAT):
                writer.write(answer)
                await reader.readline()
            while not arrived or not arrived[-1].endswith(b"body\r\n"):
                arrived.append(await reader.read(65_536))
            writer.write(b"250 ok\r\n250 ok\r\n250 2.0.0 taken\r\n")
            await reader.readline()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        smtp = courier(server.sockets[0].getsockname()[1], timeouts=replace(PATIENT, quit=0.05))
        outcomes = await smtp.deliver(message, [BOB], "d.example")
        await smtp.close()
        server.close()
        return outcomes, b"".join(arrived)

    outcomes, arrived = asyncio.run(go())
    assert codes(outcomes) == [(Delivered, 250)]
    assert arrived.endswith(b"RCPT TO:<bob@d.example>\r\nBDAT %d LAST\r\n%b" % (len(TEXT), TEXT))


def test_a_server_that_offers_bdat_and_does_not_know_it_gets_the_message_by_data_next_time(message):
    server = Server(EHLO=WITH_BDAT, BDAT=b"502 5.5.1 what?\r\n")
    assert codes(several(server, message)) == [(Deferred, 451), (Delivered, 250)]
    assert server.connections == 2


def test_a_session_that_had_ended_before_the_flight_costs_a_connection_and_nothing_else(message):
    """The message was on its way already, but nobody was there."""
    server = Server(EHLO=WITH_BDAT, MAIL=[b"250 ok\r\n", CLOSE, b"250 ok\r\n"])
    assert codes(several(server, message)) == [(Delivered, 250)] * 2
    assert (server.connections, len(server.bodies)) == (2, 2)
