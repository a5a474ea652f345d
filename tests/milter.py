"""A milter that does what a test tells it to, on a Unix socket; it keeps what it was told."""

import contextlib
import socket
import struct
import threading
from pathlib import Path

from posthouse.protocols.milter.codes import ALL_ACTIONS

CONTINUE = b"c"
SILENT = b"DAQ"


def packet(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


def insert(index: int, name: bytes, value: bytes) -> bytes:
    return b"i" + struct.pack("!I", index) + name + b"\0" + value + b"\0"


def change(index: int, name: bytes, value: bytes) -> bytes:
    return b"m" + struct.pack("!I", index) + name + b"\0" + value + b"\0"


class ScriptedMilter:
    """``answers``: what it says, by the letter of what it is told; to everything else it says CONTINUE.

    ``told``: the packets, in order; a connection begins with its ``O``. ``steps``: what it negotiates. ``hangs`` and
    ``dies``: letters to which it says nothing, and goes away.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reset()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        self.answers: dict[bytes, list[bytes]] = {}
        self.told: list[bytes] = []
        self.steps = 0
        self.actions = ALL_ACTIONS
        self.macros = b""
        self.hangs = b""
        self.dies = b""

    @property
    def letters(self) -> str:
        """What it was told, without macros and negotiations."""
        return b"".join(each[:1] for each in self.told if each[:1] not in (b"D", b"O")).decode()

    def of(self, letter: bytes) -> list[bytes]:
        return [each[1:] for each in self.told if each[:1] == letter]

    def hang_up(self) -> None:
        """Close all connections, as one that is restarted does."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        told = self.told  # what an earlier test's session says as it ends is not for this one
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while header := stream.read(4):
                data = stream.read(struct.unpack("!I", header)[0])
                told.append(data)
                letter = data[:1]
                if letter in self.hangs:
                    continue
                if letter in self.dies:
                    return
                if letter == b"O":
                    answer = struct.pack("!III", 6, self.actions, self.steps) + self.macros
                    connection.sendall(packet(b"O" + answer))
                elif letter not in SILENT:
                    for each in self.answers.get(letter, [CONTINUE]):
                        connection.sendall(packet(each))
