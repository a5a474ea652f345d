"""The server's side of HTTP/1.1 for small documents that are only read (RFC 9110, RFC 9112).

Strict where leniency has made holes: lines end in CRLF, no header line is continued, none has a space before its
colon, and an HTTP/1.1 request says exactly once for which host it is (RFC 9112 §3.2, §5.1, §5.2).

Invariants:
  1. A request has no content. One that announces some is refused, and the connection ends: what follows is never
     taken for another request.
  2. A head of more than ``MAX_HEAD_BYTES`` is refused; a request that waits for its answer holds up those behind it.
"""

import re
from dataclasses import dataclass
from typing import Final

from posthouse.protocols.engine import NEED_DATA, NEED_REPLY, Pause

MAX_HEAD_BYTES: Final = 8192
PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    505: "HTTP Version Not Supported",
}
METHODS: Final = ("GET", "HEAD")
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rf"({_WORD}) (/[!-~]*|\*|[a-z]+://[!-~]+) HTTP/(\d)\.(\d)".encode())
_HEADER = re.compile(rf"({_WORD}):([^\x00-\x08\x0a-\x1f\x7f]*)".encode())


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` is the target as it was sent, without its query."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """No request that can be served: to be answered with ``status``, and then the connection ends."""

    status: int


Event = Request | Rejected


class HttpServerEngine:
    """Pulled like the others: ``receive``, ``next_event``, ``respond``, ``data_to_send``.

    ``closed``: nothing more is to come from us.
    """

    def __init__(self) -> None:
        self.closed = False
        self._buffer = b""
        self._end_of_input = False
        self._out: list[bytes] = []
        self._asked: Event | None = None
        self._is_last = False

    def receive(self, data: bytes) -> None:
        """Bytes from the client; ``b""`` when it has closed its side."""
        if not data:
            self._end_of_input = True
        elif not self.closed:
            self._buffer += data

    @property
    def is_in_request(self) -> bool:
        """Whether a part of one has come, and its end has not."""
        return bool(self._buffer)

    def next_event(self) -> Event | Pause:
        if self._asked is not None:
            return NEED_REPLY
        if self.closed:
            return NEED_DATA
        while self._buffer.startswith(b"\r\n"):  # RFC 9112 §2.2: some clients send an empty line too many
            self._buffer = self._buffer[2:]
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end and len(self._buffer) <= MAX_HEAD_BYTES:
            if self._end_of_input:
                self.closed = True
            return NEED_DATA
        if len(head) > MAX_HEAD_BYTES:
            return self._reject(431)
        self._buffer = rest
        return self._read(head)

    def respond(self, status: int, content: bytes, content_type: str, headers: tuple[str, ...] = ()) -> None:
        """Answer; to HEAD without the content. ``headers``: further lines."""
        asked = self._asked
        if asked is None:
            raise RuntimeError("nothing waits for an answer")
        self._asked = None
        lines = [
            f"HTTP/1.1 {status} {PHRASES[status]}",
            *headers,
            f"Content-Type: {content_type}",
            f"Content-Length: {len(content)}",
            "Cache-Control: no-store",
        ]
        if status == 405:
            lines.append(f"Allow: {', '.join(METHODS)}")
        if self._is_last:
            lines.append("Connection: close")
            self.closed = True
            self._buffer = b""
        self._out.append("\r\n".join([*lines, "", ""]).encode("ascii"))
        if not isinstance(asked, Request) or asked.method != "HEAD":
            self._out.append(content)

    def data_to_send(self) -> bytes:
        """What is to be written now; it is handed out once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _read(self, head: bytes) -> Event:
        first, *lines = head.split(b"\r\n")
        found = _REQUEST_LINE.fullmatch(first)
        headers = [_HEADER.fullmatch(line) for line in lines]
        if found is None or None in headers:
            return self._reject(400)
        method, target, major, minor = found[1].decode(), found[2].decode(), found[3], found[4]
        if major != b"1":
            return self._reject(505)
        fields = [(match[1].lower(), match[2].strip(b" \t")) for match in headers if match is not None]
        if status := _problem(method, fields, is_old=minor == b"0"):
            return self._reject(status)
        options = b",".join([value for name, value in fields if name == b"connection"])
        self._is_last = minor == b"0" or b"close" in [option.strip().lower() for option in options.split(b",")]
        self._asked = Request(method, target.partition("?")[0])
        return self._asked

    def _reject(self, status: int) -> Event:
        self._is_last = True  # where it ends nobody knows
        self._asked = Rejected(status)
        return self._asked


def _problem(method: str, fields: list[tuple[bytes, bytes]], *, is_old: bool) -> int:
    """The status for what is no acceptable request; 0: it is one."""
    names = [name for name, _ in fields]
    if names.count(b"host") > 1 or (b"host" not in names and not is_old):
        return 400
    if method not in METHODS:
        return 405
    lengths = {value for name, value in fields if name == b"content-length"}
    if b"transfer-encoding" in names or lengths - {b"0"}:
        return 413
    return 0
