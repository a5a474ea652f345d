"""One TCP or Unix connection: the pump between a socket and a sans-IO engine.

Invariants:
  1. At most ``READ_LIMIT`` bytes wait unread (plus one chunk of the kernel's): the peer is made to wait.
  2. What arrived in clear is dropped when TLS starts (RFC 3207 §4.2).
  3. A silent peer costs one timer, not one a read.
  4. ``read`` and ``drain`` are called by one task only, the session's.
"""

import asyncio
import math
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from posthouse.runtime.tls import ServerContext

READ_LIMIT = 256 * 1024
WRITE_HIGH_WATER = 256 * 1024
CLOSE_GRACE_SECONDS = 10.0


class Connection(asyncio.Protocol):
    """Reads and writes for a session's coroutine.

    ``peer`` is an IP address as text, or ``unix``; ``timeout_seconds`` is how long ``read`` and
    ``drain`` wait for the peer before they raise ``TimeoutError``. ``draining``: the server is stopping; a session
    that sees it says goodbye at its next quiet moment (``read`` has returned ``None``).
    """

    __slots__ = (
        "_buffer",
        "_deadline",
        "_eof",
        "_lost",
        "_on_connected",
        "_on_lost",
        "_paused_reading",
        "_paused_writing",
        "_size",
        "_timer",
        "_waiter",
        "_woken",
        "draining",
        "is_tls",
        "loop",
        "peer",
        "timeout_seconds",
        "transport",
    )

    def __init__(
        self,
        on_connected: Callable[["Connection"], None] | None = None,
        on_lost: Callable[["Connection"], None] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.peer = "unix"
        self.is_tls = False
        self.draining = False
        self.timeout_seconds: float = 300.0
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._buffer: list[bytes] = []
        self._size = 0
        self._eof = self._woken = False
        self._lost: Exception | None = None
        self._paused_reading = self._paused_writing = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    # The session's side.

    async def read(self, until: float = math.inf) -> bytes | None:
        """What has arrived; ``b""`` once the peer has finished, ``None`` when ``wake`` was called.

        Raises ``TimeoutError`` after ``timeout_seconds`` of silence, and when nothing is there at ``until`` (the
        loop's time).
        """
        while not self._buffer:
            if self._woken:
                self._woken = False
                return None
            if self._eof or self._lost is not None:
                return b""
            await self._wait(until)
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self._size = 0
        if self._paused_reading and self.transport is not None:
            self._paused_reading = False
            self.transport.resume_reading()
        return data

    def wake(self) -> None:
        """Make the ``read`` that waits, or the next one, return ``None``."""
        self._woken = True
        self._release()

    def write(self, data: bytes) -> None:
        """Queue bytes for the peer; silently dropped once the connection is lost."""
        if data and self._lost is None and self.transport is not None:
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has read enough of what was written. Raises ``ConnectionError``, ``TimeoutError``."""
        while self._paused_writing:
            if self._lost is not None:
                break
            await self._wait()
        if self._lost is not None:
            raise ConnectionResetError("the peer has gone") from self._lost

    async def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool = True, server_hostname: str | None = None
    ) -> None:
        """Change to TLS after the bytes written so far; what the peer sent in clear before is dropped.

        Raises ``ConnectionError``, also for what the peer's bytes are worth as TLS.
        """
        transport = self.transport
        if transport is None or self._lost is not None:
            raise ConnectionResetError("the peer has gone")
        if not self._paused_reading:
            transport.pause_reading()
        self._buffer.clear()
        self._size = 0
        try:
            upgraded = await self.loop.start_tls(
                transport,
                self,
                context,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=min(60.0, self.timeout_seconds),
                ssl_shutdown_timeout=CLOSE_GRACE_SECONDS,
            )
        except OSError as error:
            # The loop has closed the transport by now and tells nobody.
            self._lost = ConnectionAbortedError(f"TLS handshake failed: {error}")
            raise self._lost from error
        if upgraded is None:
            raise ConnectionResetError("the peer went away during the TLS handshake")
        self.transport = upgraded
        self._paused_reading = False
        self.is_tls = True

    def pause(self) -> None:
        """Leave what arrives next in the kernel. Called before the go-ahead for STARTTLS is written, so that the
        peer's first TLS bytes aren't taken for clear text."""
        if not self._paused_reading and self.transport is not None:
            self._paused_reading = True
            self.transport.pause_reading()

    @property
    def tls_version(self) -> str:
        """``TLSv1.3`` or the like; empty without TLS."""
        return self._ssl_object.version() or "" if self.is_tls else ""

    @property
    def tls_cipher(self) -> str:
        """The cipher suite's name; empty without TLS."""
        cipher = self._ssl_object.cipher() if self.is_tls else None
        return cipher[0] if cipher else ""

    @property
    def channel_bindings(self) -> dict[str, bytes]:
        """What says which TLS connection to us this is, by type (RFC 5929); empty without TLS.

        TLS 1.3 has no ``tls-unique`` (RFC 8446 appendix C.5), and Python doesn't give what came in its place.
        """
        if not self.is_tls:
            return {}
        bindings: dict[str, bytes] = {}
        tls = self._ssl_object
        if isinstance(tls.context, ServerContext) and tls.context.end_point:
            bindings["tls-server-end-point"] = tls.context.end_point
        if tls.version() == "TLSv1.2" and (unique := tls.get_channel_binding("tls-unique")):
            bindings["tls-unique"] = unique
        return bindings

    @property
    def certificate_emails(self) -> tuple[str, ...]:
        """The e-mail addresses (rfc822Name) of the client certificate, if one was asked for and is good."""
        if not self.is_tls or self._ssl_object.context.verify_mode == ssl.CERT_NONE:
            return ()
        names = (self._ssl_object.getpeercert() or {}).get("subjectAltName", ())
        return tuple(name for kind, name in names if kind == "email")

    @property
    def peer_certificates(self) -> tuple[bytes, ...]:
        """What a server has shown, in DER, its own first: unverified unless the context asked for that."""
        if not self.is_tls:
            return ()
        tls = self._ssl_object
        if hasattr(tls, "get_unverified_chain"):
            return tuple(tls.get_unverified_chain() or ())
        # Public only from Python 3.13 on; there since 3.10.
        chain = getattr(tls._sslobj, "get_unverified_chain", lambda: None)()
        if chain is None:
            own = tls.getpeercert(binary_form=True)
            return (own,) if own else ()
        return tuple([ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain])

    def close(self) -> None:
        """Close once everything written has left, or the grace period is over."""
        if self.transport is not None and self._lost is None:
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_lost(self) -> bool:
        return self._lost is not None

    # The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.is_tls:
            return
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            self.peer = _plain_address(transport.get_extra_info("peername")[0])
        self.is_tls = transport.get_extra_info("ssl_object") is not None
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        if self._on_connected is not None:
            callback, self._on_connected = self._on_connected, None
            callback(self)

    def data_received(self, data: bytes) -> None:
        self._buffer.append(data)
        self._size += len(data)
        if self._size > READ_LIMIT and not self._paused_reading and self.transport is not None:
            self._paused_reading = True
            self.transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> bool:
        self._eof = True
        self._release()
        # A half-closed peer still reads our replies; TLS has no half-close.
        return not self.is_tls

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        self._release()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or ConnectionResetError("closed")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._release()
        if self._on_lost is not None:
            self._on_lost(self)

    # Waiting.

    async def _wait(self, until: float = math.inf) -> None:
        """Wait for anything to happen; ``TimeoutError`` when nothing does for ``timeout_seconds``, or ``until`` then.

        One timer serves all waits: it is set again only when it fires before the latest deadline.
        """
        loop = self.loop
        self._deadline = min(loop.time() + self.timeout_seconds, until)
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(self._deadline, self._on_timer)
        waiter = self._waiter = loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
        elif not self._waiter.done():
            self._waiter.set_exception(TimeoutError("the peer is silent"))

    def _release(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def _ssl_object(self) -> Any:
        assert self.transport is not None
        return self.transport.get_extra_info("ssl_object")


def _plain_address(host: str) -> str:
    """An address without its zone, and IPv4 out of its IPv6 mapping."""
    host = host.partition("%")[0]
    return host[7:] if host.startswith("::ffff:") and "." in host else host
