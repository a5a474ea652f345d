"""Small documents over HTTPS, fetched in a thread.

Invariants:
  1. It ends: ``seconds`` after it has connected, however the server drips; and reads ``MAX_BYTES`` at most.
  2. Certificates are verified; clear HTTP is for loopback only. No redirect is followed, and no proxy used.
"""

import http.client
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

MAX_BYTES = 1024 * 1024


class FetchError(Exception):
    """There is no such document to be had now; says why, and where."""


class CertificateError(FetchError):
    """The server could not show that it is the one."""


def fetch_json(
    url: str, *, seconds: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object at ``url``; with a ``body``, what POSTing that returns. Raises ``FetchError``. Blocks."""
    if not is_acceptable(url):
        raise FetchError(f"{url[:200]!r} is no https:// URL")
    is_over = threading.Event()
    try:
        with _Call(url, seconds, is_over) as connection:
            return _exchange(connection, urlsplit(url), body, dict(headers or {}))
    except (OSError, http.client.HTTPException, FetchError) as error:
        # Whatever a connection that was cut looks like, down to half a document.
        reason = "no answer in time" if is_over.is_set() else str(error) or type(error).__name__
        raise FetchError(f"{url}: {reason}") from None


def fetch_text(
    host: str, address: tuple[str, int], path: str, *, seconds: float, max_bytes: int, ca: str = ""
) -> str:
    """The text/plain document at ``https://host/path``, which is to be had at ``address``: the certificate is checked
    for ``host``, against ``ca`` or the system's authorities. Raises ``FetchError``. Blocks."""
    is_over = threading.Event()
    try:
        with _Call(f"https://{host}", seconds, is_over, address, ca) as connection:
            connection.request("GET", path, headers={"Connection": "close", "User-Agent": "posthouse"})
            with connection.getresponse() as response:
                kind = response.headers.get_content_type()
                if response.status != http.HTTPStatus.OK or kind != "text/plain":
                    raise FetchError(f"HTTP status {response.status}, {kind}")
                data = response.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise FetchError(f"more than {max_bytes} bytes")
        return data.decode()
    except ssl.SSLError as error:
        raise CertificateError(f"https://{host}{path}: {error}") from None
    except (OSError, http.client.HTTPException, FetchError, ValueError) as error:
        reason = "no answer in time" if is_over.is_set() else str(error) or type(error).__name__
        raise FetchError(f"https://{host}{path}: {reason}") from None


def is_acceptable(url: str) -> bool:
    """Whether it is an ``https://`` URL, or ``http://`` of loopback, without a user's name in it."""
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False
    return valid and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")))


class _Call:
    """A connection that is cut after ``seconds``, wherever it is by then; ``is_over`` is set before that."""

    def __init__(
        self,
        url: str,
        seconds: float,
        is_over: threading.Event,
        address: tuple[str, int] | None = None,
        ca: str = "",
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._is_tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._address = address or (self._host, self._port)
        self._ca = ca
        self._seconds = seconds
        self._is_over = is_over

    def __enter__(self) -> http.client.HTTPConnection:
        sock = socket.create_connection(self._address, self._seconds)
        # TLS takes the socket over, and the response does from the connection: this one stays ours to cut it with.
        self._handle = sock.dup()
        self._timer = threading.Timer(self._seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()
        try:
            kind = http.client.HTTPConnection
            if self._is_tls:
                kind = http.client.HTTPSConnection
                context = ssl.create_default_context(cafile=self._ca or None)
                sock = context.wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            self._end()
            raise
        self._connection = kind(self._host, self._port)
        self._connection.sock = sock
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self._handle.close()

    def _cut(self) -> None:
        self._is_over.set()
        try:
            self._handle.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _exchange(
    connection: http.client.HTTPConnection, parts: SplitResult, body: bytes | None, headers: dict[str, str]
) -> dict[str, Any]:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Accept": "application/json", "Connection": "close", "User-Agent": "posthouse", **headers}
    connection.request("GET" if body is None else "POST", target, body, headers)
    with connection.getresponse() as response:
        if response.status != http.HTTPStatus.OK:
            raise FetchError(f"HTTP status {response.status}")
        data = response.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise FetchError(f"more than {MAX_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise FetchError("no JSON") from None
    if not isinstance(document, dict):
        raise FetchError("no JSON object")
    return document


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
