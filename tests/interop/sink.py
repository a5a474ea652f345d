"""An SMTP server in a few lines, for what leaves Posthouse: takes all mail, or answers as it is told.

What happens is in the recipient: ``refuse...`` gets a 550, ``later...`` a 451 until ``open_up``.
"""

import socketserver
import threading
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Taken:
    """One message, with MAIL FROM's and RCPT TO's arguments as they came."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes


class Sink(socketserver.ThreadingTCPServer):
    """Listens on a free port of 127.0.0.1; ``taken`` is what it has got, ``asked`` every recipient."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, offers: tuple[str, ...] = ()) -> None:
        """``offers``: extensions beside the usual ones."""
        super().__init__(("127.0.0.1", 0), _Session)
        self.offers = ("sink.example.org", *offers, "PIPELINING", "8BITMIME", "DSN")
        self.port = self.server_address[1]
        self.taken: list[Taken] = []
        self.asked: list[str] = []
        self.is_open = False
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def taken_for(self, address: str) -> list[Taken]:
        return [each for each in self.taken if any(f"<{address}>" in one for one in each.recipients)]


class _Session(socketserver.StreamRequestHandler):
    server: Sink

    def handle(self) -> None:
        self._say("220 sink.example.org ESMTP")
        sender, recipients = "", []
        while line := self.rfile.readline():
            command = line.decode("latin-1").rstrip("\r\n")
            match command[:4].upper():
                case "EHLO":
                    self._say("".join(f"250-{line}\r\n" for line in self.server.offers) + "250 SIZE")
                case "MAIL":
                    sender, recipients = command[10:], []
                    self._say("250 2.1.0 Ok")
                case "RCPT":
                    self.server.asked.append(command[8:].split()[0])
                    reply = self._decide(command[8:])
                    recipients += [command[8:]] if reply.startswith("2") else []
                    self._say(reply)
                case "DATA" if recipients:
                    self._say("354 Go ahead")
                    self.server.taken.append(Taken(sender, tuple(recipients), self._data()))
                    self._say("250 2.0.0 Taken")
                case "DATA":
                    self._say("554 5.5.1 No valid recipients")
                case "QUIT":
                    self._say("221 2.0.0 Bye")
                    return
                case _:
                    self._say("250 2.0.0 Ok")

    def _decide(self, path: str) -> str:
        if path.startswith("<refuse"):
            return "550-5.1.1 We have looked everywhere.\r\n550 5.1.1 Nobody by that name (really)"
        if path.startswith("<later") and not self.server.is_open:
            return "451 4.7.1 Greylisted, come back"
        return "250 2.1.5 Ok"

    def _data(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            assert line, "the connection broke in mid-message"
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    def _say(self, reply: str) -> None:
        self.wfile.write(reply.encode() + b"\r\n")
