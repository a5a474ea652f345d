"""One HTTP/1.1 request to a server that is trusted as far as its answer goes, without I/O (RFC 9112).

Invariants:
  1. An answer is at most ``MAX_HEAD`` octets of header and ``MAX_BODY`` of body; what is none is ``Broken``.
  2. A connection serves one request: whatever else the server sends is not looked at.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.protocols.engine import NEED_DATA, Pause

MAX_HEAD = 65_536
MAX_BODY = 4 * 1024 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\Z)")
_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?", re.DOTALL)
_NOT_IN_VALUE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Response:
    """``headers`` by their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """There is no answer; ``reason`` is for the log."""

    reason: str


def request(method: str, target: str, host: str, headers: Mapping[str, str], body_bytes: int) -> bytes:
    """The head of a request; its body, of so many octets, follows. No value can end a line."""
    given = {"Host": host, "Connection": "close", "Content-Length": str(body_bytes), **headers}
    lines = [f"{name}: {_NOT_IN_VALUE.sub('?', value)}\r\n" for name, value in given.items()]
    return f"{method} {target} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("ascii")


class HttpClientEngine:
    """The answer to one request."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._event: Response | Broken | None = None
        self._ended = False

    def receive(self, data: bytes) -> None:
        """Bytes from the server; ``b""`` when it has closed its side."""
        if data:
            self._data += data
        else:
            self._ended = True

    def next_event(self) -> Response | Broken | Pause:
        """The answer, once all of it is here."""
        if self._event is None:
            try:
                self._event = self._read()
            except ValueError as error:
                self._event = Broken(str(error))
        return self._event or NEED_DATA

    def _read(self) -> Response | None:
        data = self._data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > MAX_HEAD:
                raise ValueError("the header of its answer is too long")
            if self._ended:
                raise ValueError("it closed the connection")
            return None
        status, headers = _head(bytes(data[:end]))
        body = self._body(end + 4, headers)
        return None if body is None else Response(status, headers, body)

    def _body(self, start: int, headers: dict[str, str]) -> bytes | None:
        """All of the body, or None as long as there may be more. Raises ``ValueError``."""
        length = headers.get("content-length", "")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = dechunked(bytes(self._data[start:]))
        elif length:
            if not length.isascii() or not length.isdecimal() or int(length) > MAX_BODY:
                raise ValueError("its answer has no possible length")
            there = len(self._data) - start >= int(length)
            body = bytes(self._data[start : start + int(length)]) if there else None
        else:
            body = bytes(self._data[start:]) if self._ended else None
        if body is None and self._ended:
            raise ValueError("its answer is cut off")
        if len(self._data) - start > 2 * MAX_BODY:
            raise ValueError("its answer is too long")
        return body


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = data.split(b"\r\n")
    status = _STATUS.match(first)
    if not status:
        raise ValueError("its answer is not HTTP")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError("a line of its header is none")
        headers[name.decode("latin-1").lower()] = value.strip(b" \t").decode("latin-1")
    return int(status[1]), headers


def dechunked(data: bytes) -> bytes | None:
    """What chunks hold (RFC 9112 §7.1); None before the last one is here. Raises ``ValueError``."""
    parts: list[bytes] = []
    at = size = 0
    while True:
        end = data.find(b"\r\n", at, at + 1024)
        if end < 0:
            if len(data) - at >= 1024:
                raise ValueError("the size of a chunk is none")
            return None
        found = _SIZE.fullmatch(data, at, end)
        if not found:
            raise ValueError("the size of a chunk is none")
        length = int(found[1], 16)
        size += length
        if size > MAX_BODY:
            raise ValueError("its answer is too long")
        if not length:
            return b"".join(parts)
        at = end + 2 + length + 2
        if at > len(data):
            return None
        if data[at - 2 : at] != b"\r\n":
            raise ValueError("a chunk does not end where it says")
        parts.append(data[end + 2 : at - 2])
