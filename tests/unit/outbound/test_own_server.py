"""The couriers against this project's own server engine: what one writes the other reads."""

import asyncio
import os

import pytest

from posthouse.base.errors import Reply
from posthouse.mailqueue.courier import Delivered, Failed
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.mailqueue.state import MessageState
from posthouse.message.envelope import Envelope, Recipient
from posthouse.outbound.lmtp import LmtpCourier
from posthouse.outbound.smtp import SmtpCourier
from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.smtp.events import Chunk, DataStart, Hello, MailFrom, MessageEnd, Quit, RcptTo
from posthouse.protocols.smtp.server import SmtpServerEngine
from posthouse.protocols.smtp.states import ServerOptions
from posthouse.runtime.resolver import NoSuchName

OK, NEVER = Reply(250, "2.0.0", "ok"), Reply(550, "5.1.1", "no such user")
TEXT = b"Subject: b\xc3\xb6b\r\n\r\n.\r\n..\r\nno line end at the end" + b"\r\n.x" * 100_000


class Receiver:
    """Takes everything but mail for ``nobody@``."""

    def __init__(self, lmtp):
        self.options = ServerOptions("mx.example", lmtp=lmtp, max_size_bytes=10_000_000, starttls=False)
        self.received = []

    async def talk(self, reader, writer):
        engine = SmtpServerEngine(self.options)
        engine.greet()
        while not isinstance(event := engine.next_event(), Quit):
            writer.write(engine.data_to_send())
            if event is NEED_DATA:
                engine.receive(await reader.read(65_536))
            else:
                self.answer(engine, event)
        writer.write(engine.data_to_send())
        writer.close()

    def answer(self, engine, event):
        if isinstance(event, Hello):
            engine.accept_hello()
        elif isinstance(event, MailFrom):
            self.sender, self.recipients, self.chunks = event, [], []
            engine.reply(OK)
        elif isinstance(event, RcptTo):
            refused = event.path.startswith("nobody@")
            engine.reply(NEVER if refused else OK)
            self.recipients += [] if refused else [event]
        elif isinstance(event, DataStart):
            engine.accept_data()
        elif isinstance(event, Chunk):
            self.chunks.append(event.data)
        elif isinstance(event, MessageEnd):
            self.received.append((self.sender, tuple(self.recipients), b"".join(self.chunks)))
            for _ in self.recipients if self.options.lmtp else [None]:
                engine.reply(OK)


class Nowhere:
    """A resolver that is not asked: the destinations are addresses."""

    async def mx(self, domain):
        raise NoSuchName(domain)

    addresses = txt = ptr = mx


@pytest.mark.parametrize("lmtp", [False, True])
def test_envelope_and_content_arrive_as_they_were(tmp_path, lmtp):
    path = os.path.join(tmp_path, "m")
    with open(path, "wb") as file:
        file.write(TEXT)
    recipients = (
        Recipient("bob@d.example", orcpt="rfc822;old+bob=x@d.example", notify=frozenset({"SUCCESS", "DELAY"})),
        Recipient("nobody@d.example"),
        Recipient("böb@d.example"),
        Recipient('"a b"@d.example'),
    )
    envelope = Envelope("alice@example.test", recipients, "t1", "HDRS", "id +=1", "8BITMIME", smtputf8=True)
    message = QueuedMessage("t1", envelope, 0.0, len(TEXT), MessageState([]), path, 0)
    receiver = Receiver(lmtp)

    async def go():
        server = await asyncio.start_server(receiver.talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        courier = (LmtpCourier if lmtp else SmtpCourier)("us.example", Nowhere())
        outcomes = await courier.deliver(message, recipients, f"127.0.0.1:{port}")
        outcomes += await courier.deliver(message, recipients[:1], f"127.0.0.1:{port}")
        await courier.close()
        server.close()
        return outcomes

    outcomes = asyncio.run(go())
    assert [type(outcome) for outcome in outcomes] == [Delivered, Failed, Delivered, Delivered, Delivered]
    (sender, accepted, content), (_, again, _) = receiver.received
    assert sender == MailFrom("alice@example.test", len(TEXT), "8BITMIME", smtputf8=True, ret="HDRS", envid="id +=1")
    assert [(event.path, event.notify, event.orcpt) for event in accepted] == [
        (recipient.address, recipient.notify, recipient.orcpt)
        for recipient in recipients
        if recipient != recipients[1]
    ]
    assert len(again) == 1
    assert content == TEXT + b"\r\n"
