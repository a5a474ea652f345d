"""Listening sockets, bound by the supervisor and handed to the workers by fork.

Each worker has a socket of its own on every TCP address (SO_REUSEPORT), so the kernel spreads connections
without waking everybody. The supervisor keeps all of them open: what waits in the backlog of a worker that died
is served by its successor. A Unix socket is shared.
"""

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass

from posthouse.config.endpoints import Endpoint

BACKLOG = 1024


class ListenError(Exception):
    """An address that can't be listened on; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of one service; ``sockets[i]`` belongs to worker ``i``."""

    service: str
    endpoint: Endpoint
    sockets: tuple[socket.socket, ...]

    def close(self, keep: int | None = None) -> None:
        """Close what this process has of it, except worker ``keep``'s socket.

        An address takes connections, and lets them wait, until the last process has closed it.
        """
        kept = None if keep is None else self.sockets[keep]
        for sock in self.sockets:
            if sock is not kept:
                sock.close()


def bind(service: str, endpoint: Endpoint, workers: int) -> Listener:
    """Bind one address for so many workers. Raises ``ListenError``."""
    try:
        if endpoint.path:
            shared = _bind_unix(endpoint.path)
            return Listener(service, endpoint, (shared,) * workers)
        return _bind_tcp(service, endpoint, workers)
    except OSError as error:
        raise ListenError(_explain(service, endpoint, error)) from error


def _bind_tcp(service: str, endpoint: Endpoint, workers: int) -> Listener:
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    # SO_REUSEPORT would let a second server of the same user in silently: a plain socket asks first.
    with _tcp_socket(family) as probe:
        probe.bind(address)
        probe.listen(1)
    sockets: list[socket.socket] = []
    for _ in range(workers):
        sock = _tcp_socket(family)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        if endpoint.port == 0:  # tests: one port for all
            address = sock.getsockname()
        sock.listen(BACKLOG)
        sock.setblocking(False)
    port = sockets[0].getsockname()[1]
    return Listener(service, Endpoint(endpoint.host, port), tuple(sockets))


def _tcp_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            _remove_if_dead(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Who may connect is decided by the directory it is in. No chmod: whoever may write there could have put a link
    # in the socket's place meanwhile, and this is root.
    mask = os.umask(0o111)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _remove_if_dead(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, "another process answers there")


def _explain(service: str, endpoint: Endpoint, error: OSError) -> str:
    what = f"cannot listen on {endpoint} for {service}: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        return f"{what}. Another server uses it: stop that one, or set listen.{service} to another address"
    if error.errno == errno.EACCES:
        return f"{what}. Ports below 1024 need root: start as root with 'user' set, or use a higher port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{what}. This machine has no such address: correct listen.{service}"
    return f"{what}. Correct listen.{service}"
