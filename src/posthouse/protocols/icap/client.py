"""One RESPMOD request of ICAP, without I/O (RFC 3507 §4.9).

The message goes out as the body of an HTTP answer. ``204`` says that it may stay as it is; ``200`` that something
else should be shown in its place, for which scanners give a reason in a header of their own.

Invariants:
  1. An answer's header is at most ``MAX_HEAD`` octets, and of its body nothing is kept: what is no answer is
     ``Broken``, never ``Unchanged``.
  2. A connection serves one request.
"""

import re
from dataclasses import dataclass

from posthouse.protocols.engine import NEED_DATA, Pause

MAX_HEAD = 65_536
_STATUS = re.compile(rb"ICAP/1\.\d (\d{3})(?: .*)?")
_HTTP = re.compile(rb"HTTP/1\.\d (\d{3})")
_THREAT = re.compile(r"Threat=([^;]+)", re.IGNORECASE)
_NOT_IN_NAME = re.compile(r"[^!-~]")
_NAMED_BY = ("x-virus-id", "x-virus-name", "x-blocked-reason")


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing was found."""


@dataclass(frozen=True, slots=True)
class Found:
    """``name`` of what was found."""

    name: str


@dataclass(frozen=True, slots=True)
class Broken:
    """There is no answer; ``reason`` is for the log."""

    reason: str


Event = Unchanged | Found | Broken


def request(service: str, host: str, name: str) -> bytes:
    """The head of the question about one message; ``service`` is the path of the server's service, ``name`` what the
    message is called there. Chunks and ``end()`` follow."""
    get = f"GET http://mail/{_NOT_IN_NAME.sub('?', name)} HTTP/1.1\r\nHost: mail\r\n\r\n".encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nTransfer-Encoding: chunked\r\n\r\n"
    head = (
        f"RESPMOD icap://{host}/{service} ICAP/1.0\r\nHost: {host}\r\nAllow: 204\r\nConnection: close\r\n"
        f"Encapsulated: req-hdr=0, res-hdr={len(get)}, res-body={len(get) + len(answer)}\r\n\r\n"
    )
    return head.encode() + get + answer


def chunk(data: bytes) -> bytes:
    """The next octets of the message; none is no chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def end() -> bytes:
    """That was all of it."""
    return b"0\r\n\r\n"


class IcapAnswer:
    """The answer to one request."""

    def __init__(self) -> None:
        self._data = b""
        self._event: Event | None = None
        self._ended = False

    def receive(self, data: bytes) -> None:
        """Bytes from the server; ``b""`` when it has closed its side."""
        if not data:
            self._ended = True
        elif self._event is None:
            self._data += data

    def next_event(self) -> Event | Pause:
        """What it says, as soon as that is known."""
        if self._event is None:
            self._event = self._read()
        return self._event or NEED_DATA

    def _read(self) -> Event | None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > MAX_HEAD:
                return Broken("the header of its answer is too long")
            return Broken("it closed the connection") if self._ended else None
        if end > MAX_HEAD:
            return Broken("the header of its answer is too long")
        status, *lines = self._data[:end].split(b"\r\n")
        found = _STATUS.fullmatch(status)
        if not found:
            return Broken("its answer is not ICAP")
        headers = dict(_header(line) for line in lines)
        if found[1] == b"204":
            return Unchanged()
        if named := _named(headers):
            return Found(named)
        if found[1] == b"200":
            return self._replaced(end + 4)
        return Broken(f"it says {found[1].decode()}")

    def _replaced(self, start: int) -> Event | None:
        """Another content, and no word why: a page that refuses, or ours come back from one that can't say 204."""
        end = self._data.find(b"\r\n", start)
        if end < 0:
            return Broken("its answer is cut off") if self._ended or len(self._data) > start + MAX_HEAD else None
        shown = _HTTP.match(self._data, start)
        if shown and int(shown[1]) >= 400:
            return Found(f"what the scanner answers with HTTP {shown[1].decode()}")
        return Broken("it sends content back and does not say why")


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()


def _named(headers: dict[str, str]) -> str:
    """What was found, by the names that servers have for it; empty: they say nothing."""
    infection = headers.get("x-infection-found", "")
    threat = _THREAT.search(infection)
    named = [threat[1].strip() if threat else "", *(headers.get(name, "") for name in _NAMED_BY), infection]
    return next(filter(None, named), "")
