"""The next hop on a bad day: it takes messages, but answers late, or hangs up instead of answering."""

import contextlib
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import Self


@dataclass(slots=True)
class Delivery:
    """A message that arrived whole, and when (``time.monotonic``). ``heard``: the client went on after our 250."""

    data: bytes
    at: float
    heard: bool = False


class FlakySink:
    """``with FlakySink(seed) as sink``; once ``is_honest`` every message is answered at once."""

    def __init__(self, seed: str) -> None:
        self.deliveries: list[Delivery] = []
        self.is_honest = False
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._server.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the other side may have gone first
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as lines:
                self._talk(connection, lines)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
                connection.close()

    def _talk(self, connection: socket.socket, lines) -> None:
        last: Delivery | None = None
        connection.sendall(b"220 sink.test\r\n")
        while line := lines.readline():
            if last is not None:
                last.heard = True
            verb = line[:4].upper()
            if verb != b"DATA":
                connection.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"QUIT":
                    return
                continue
            connection.sendall(b"354 go on\r\n")
            how = self._mood()
            data = self._read(lines, 5 if how == "cut in the middle" else -1)
            if data is None:
                return
            last = Delivery(data, time.monotonic())
            with self._lock:
                self.deliveries.append(last)
            if how == "cut before the answer":
                return
            if how == "late":
                time.sleep(0.1)  # so that it can be killed while it waits
            connection.sendall(b"250 2.0.0 taken\r\n")

    def _mood(self) -> str:
        if self.is_honest:
            return "well"
        with self._lock:
            moods = ["well", "late", "cut before the answer", "cut in the middle"]
            return self._rng.choices(moods, [5, 3, 1, 1])[0]

    def _read(self, lines, most: int) -> bytes | None:
        """The message, without its stuffed dots; None if it broke off, or after so many lines."""
        data: list[bytes] = []
        while (line := lines.readline()) != b".\r\n":
            if not line or len(data) == most:
                return None
            data.append(line.removeprefix(b"."))
        return b"".join(data)
