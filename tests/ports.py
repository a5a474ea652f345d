"""Ports for servers that can't be told to take any and say which."""

import contextlib
import random
import socket

_chance = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, also over a restart: none that the kernel gives to who asks for any."""
    while True:
        port = _chance.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
