"""The SMTP engines driven in memory: a server that accepts what it is told to, a client that sends messages."""

from collections.abc import Callable, Iterable

from posthouse.base.errors import Reply
from posthouse.protocols.engine import NEED_DATA, NEED_REPLY
from posthouse.protocols.smtp import client_events, events
from posthouse.protocols.smtp.client import SmtpClientEngine
from posthouse.protocols.smtp.events import Event
from posthouse.protocols.smtp.server import SmtpServerEngine
from posthouse.protocols.smtp.states import ServerOptions
from posthouse.protocols.smtp.transaction import TransactionRequest

OK = Reply(250, "2.0.0", "Ok")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user")
WRONG_PASSWORD = Reply(535, "5.7.8", "Authentication credentials invalid")
FAREWELLS = client_events.Finished | client_events.TurnedAway | client_events.Broken


class Server:
    """A server engine with a driver that knows users by ``nobody`` in a path, and passwords by ``secret``."""

    def __init__(self, **options: object) -> None:
        self.engine = SmtpServerEngine(ServerOptions("mx.example.com", **options))  # type: ignore[arg-type]
        self.events: list[Event] = []
        self.accepted = 0
        self.engine.greet()
        self.output = self.engine.data_to_send()

    def say(self, *pieces: bytes) -> bytes:
        """Hand in pieces, answer every event; what the server said to it."""
        said = b""
        for piece in pieces:
            self.engine.receive(piece)
            self.run()
            said += self.engine.data_to_send()
        self.output += said
        return said

    def run(self) -> None:
        while (event := self.engine.next_event()) is not NEED_DATA:
            assert event is not NEED_REPLY
            assert not isinstance(event, type(NEED_DATA))
            if isinstance(event, events.Quit):
                if event not in self.events:
                    self.events.append(event)
                return
            self.events.append(event)
            self.answer(event)

    def answer(self, event: Event) -> None:
        engine = self.engine
        match event:
            case events.Hello():
                engine.accept_hello()
            case events.StartTls():
                engine.accept_starttls()
                engine.start_tls()
            case events.Auth(initial=None):
                engine.auth_challenge(b"who?")
            case events.Auth(initial=response) | events.AuthResponse(response):
                engine.auth_success() if response == b"secret" else engine.auth_failure(WRONG_PASSWORD)
            case events.MailFrom(path) | events.RcptTo(path):
                refused = "nobody" in path
                self.accepted = 0 if isinstance(event, events.MailFrom) else self.accepted + (not refused)
                engine.reply(NO_SUCH_USER if refused else OK)
            case events.DataStart():
                engine.accept_data()
            case events.MessageEnd():
                for _ in range(self.accepted if engine.options.lmtp else 1):
                    engine.reply(OK)
            case _:
                pass

    @property
    def messages(self) -> list[bytes]:
        """Content of the messages that were complete."""
        return [content for content, whole in self.bodies() if whole]

    def bodies(self) -> Iterable[tuple[bytes, bool]]:
        content = b""
        for event in self.events:
            if isinstance(event, events.DataStart):
                content = b""
            elif isinstance(event, events.Chunk):
                content += event.data
            elif isinstance(event, events.MessageEnd | events.Reset):
                yield content, isinstance(event, events.MessageEnd)

    def meaning(self) -> list[Event]:
        """The events with chunks joined, those of messages that came to nothing left out."""
        joined: list[Event] = []
        for event in self.events:
            if isinstance(event, events.Chunk) and joined and isinstance(joined[-1], events.Chunk):
                joined[-1] = events.Chunk(joined[-1].data + event.data)
                continue
            if isinstance(event, events.Reset) and joined and isinstance(joined[-1], events.Chunk):
                joined.pop()
            joined.append(event)
        return joined


def ready(**options: object) -> Server:
    """A server that was said EHLO to."""
    server = Server(**options)
    server.say(b"LHLO client.example.org\r\n" if options.get("lmtp") else b"EHLO client.example.org\r\n")
    server.events.clear()
    return server


def with_recipient(**options: object) -> Server:
    """A server in mid-transaction, waiting for DATA or BDAT."""
    server = ready(**options)
    server.say(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n")
    server.events.clear()
    return server


class Client:
    """A client engine with a driver that sends messages one after the other, then quits."""

    def __init__(
        self,
        messages: Iterable[tuple[TransactionRequest, Iterable[bytes]]] = (),
        *,
        lmtp: bool = False,
        chunking: bool = False,
        prepare: Callable[[SmtpClientEngine], None] | None = None,
    ) -> None:
        self.engine = SmtpClientEngine("client.example.org", lmtp=lmtp, chunking=chunking)
        self.events: list[client_events.ClientEvent] = []
        self.pending = list(messages)
        self.current: Iterable[bytes] = ()
        self.prepare = prepare

    def run(self) -> bytes:
        """Everything that can be done now; what there is to send."""
        engine = self.engine
        while (event := engine.next_event()) is not NEED_DATA:
            if event is NEED_REPLY:
                self.go_on()
                continue
            assert not isinstance(event, type(NEED_DATA))
            if isinstance(event, FAREWELLS):
                if event not in self.events:
                    self.events.append(event)
                break
            self.events.append(event)
            if isinstance(event, client_events.TlsReady):
                engine.start_tls()
            elif isinstance(event, client_events.AuthChallenge):
                engine.auth_response(b"secret")
            elif isinstance(event, client_events.SendBody):
                for piece in self.current:
                    engine.body(piece)
                engine.end_body()
        return engine.data_to_send()

    def go_on(self) -> None:
        if self.prepare is not None:
            prepare, self.prepare = self.prepare, None
            prepare(self.engine)
        elif self.pending:
            request, self.current = self.pending.pop(0)
            self.engine.send(request)
        else:
            self.engine.quit()

    def hear(self, *pieces: bytes) -> bytes:
        """Hand in what the server says; what the client says to it."""
        said = b""
        for piece in pieces:
            self.engine.receive(piece)
            said += self.run()
        return said

    @property
    def outcomes(self) -> list[tuple[Reply, ...]]:
        return [event.replies for event in self.events if isinstance(event, client_events.TransactionDone)]


def converse(client: Client, server: Server) -> None:
    """Let the two talk until both are silent."""
    to_client = server.output
    for _ in range(1000):
        to_server = client.hear(to_client) if to_client else client.run()
        if not to_server:
            return
        to_client = server.say(to_server)
    raise AssertionError("they never stop")
