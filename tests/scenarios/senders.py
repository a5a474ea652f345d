"""Senders with a memory: every message has an id and a checksum, and what the server said to it is kept.

A message whose answer was never seen is *open*: it may have arrived or not, but never torn and never twice.
"""

import hashlib
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

OPEN, TAKEN, REFUSED = "open", "taken", "refused"
PLACES = {
    "alice@example.test": ("alice",),
    "bob@example.test": ("bob",),
    "team@example.test": ("alice", "bob"),
    "friend@elsewhere.test": ("queue",),
}
"""Where the mail for an address lies: accounts' mailboxes, or the queue as the relay host is away."""

_random = random.Random(5321)
POOL = b"".join(
    _random.choice([b"", b".", b"..", b"From "]) + _random.randbytes(30).hex().encode() + b"\r\n" for _ in range(4000)
)
LARGEST = 200_000


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(slots=True)
class Sent:
    """One message. ``places`` is where it must lie once it is ``TAKEN``."""

    id: str
    digest: str
    places: frozenset[str]
    outcome: str = OPEN
    reply: str = ""


@dataclass
class Ledger:
    """All messages that were ever sent; from any thread."""

    sent: dict[str, Sent] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, rng: random.Random, places: frozenset[str], size: int) -> tuple[Sent, bytes]:
        """A new message of about ``size`` octets; its entry and its data with CRLF."""
        with self._lock:
            name = f"m{len(self.sent):06}"
            self.sent[name] = Sent(name, "", places)
        data = compose(rng, name, size)
        self.sent[name].digest = digest(data)
        return self.sent[name], data

    @property
    def taken(self) -> list[Sent]:
        with self._lock:
            return [sent for sent in self.sent.values() if sent.outcome == TAKEN]


def compose(rng: random.Random, name: str, size: int) -> bytes:
    """A message with lines that begin with dots, and with From."""
    head = f"X-Load: {name}\r\nMessage-ID: <{name}@load.test>\r\nSubject: number {name}\r\n\r\n".encode()
    start = POOL.index(b"\n", rng.randrange(len(POOL) - LARGEST - 200)) + 1
    return head + POOL[start : POOL.index(b"\n", start + size) + 1]


def some_size(rng: random.Random) -> int:
    """0.2 to 200 KB: mostly small, some past the border where a message goes to its file by itself."""
    low, high = rng.choices([(200, 5_000), (5_000, 60_000), (120_000, LARGEST)], [8, 2, 1])[0]
    return rng.randrange(low, high)


def some_recipients(rng: random.Random) -> list[str]:
    return rng.sample(list(PLACES), rng.choices([1, 2, 3], [6, 2, 1])[0])


class Conversation:
    """One SMTP connection. Raises ``OSError`` as soon as the other side is gone."""

    def __init__(self, port: int, timeout_seconds: float = 60.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)
        self._buffer = b""
        try:
            self.expect("220")
            self.say(b"EHLO load.test\r\n")
            self.expect("250")
        except BaseException:
            self.close()
            raise

    @property
    def local_port(self) -> int:
        return self._socket.getsockname()[1]

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reply(self) -> str:
        """The last line of the next reply."""
        while True:
            while b"\n" not in self._buffer:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionError("closed by the server")
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            if line[3:4] != b"-":
                return line.decode().rstrip()

    def expect(self, code: str) -> str:
        reply = self.reply()
        if reply.startswith("421"):
            raise ConnectionError(reply)
        assert reply.startswith(code), reply
        return reply

    def send(self, recipients: list[str], data: bytes) -> str:
        """One transaction, pipelined up to DATA; the reply to the message."""
        commands = [b"MAIL FROM:<sender@load.test>", *(b"RCPT TO:<%b>" % to.encode() for to in recipients), b"DATA"]
        self.say(b"\r\n".join(commands) + b"\r\n")
        for _ in commands[:-1]:
            self.expect("250")
        self.expect("354")
        self.say(data.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply()

    def close(self) -> None:
        self._socket.close()


def deliver(conversation: Conversation, ledger: Ledger, rng: random.Random, recipients: list[str], size: int) -> Sent:
    """Send one message and write down what is said to it."""
    places = frozenset(place for recipient in recipients for place in PLACES[recipient])
    sent, data = ledger.write(rng, places, size)
    sent.reply = conversation.send(recipients, data)
    if sent.reply.startswith("250 "):
        sent.outcome = TAKEN
    elif not sent.reply.startswith("421"):
        sent.outcome = REFUSED
    return sent


class Sender(threading.Thread):
    """Sends as fast as it may until ``stop``; a server that isn't there is tried again."""

    def __init__(self, ledger: Ledger, port: Callable[[], int], seed: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.ledger = ledger
        self.port = port
        self.rng = random.Random(seed)
        self.stop = stop
        self.failure: BaseException | None = None

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._session()
            except OSError:
                self.stop.wait(0.01)
            except BaseException as error:
                self.failure = error
                return

    def _session(self) -> None:
        conversation = Conversation(self.port())
        try:
            for _ in range(self.rng.randrange(1, 12)):
                if self.stop.is_set():
                    return
                deliver(conversation, self.ledger, self.rng, some_recipients(self.rng), some_size(self.rng))
        finally:
            conversation.close()


class Load:
    """Many senders at once: ``with Load(...)``; what a sender stumbled over is raised at the end."""

    def __init__(self, ledger: Ledger, port: Callable[[], int], seed: str, senders: int = 10) -> None:
        self._stop = threading.Event()
        self._senders = [Sender(ledger, port, f"{seed}-{number}", self._stop) for number in range(senders)]

    def __enter__(self) -> Self:
        for sender in self._senders:
            sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for sender in self._senders:
            sender.join()
        for sender in self._senders:
            if sender.failure is not None:
                raise sender.failure
