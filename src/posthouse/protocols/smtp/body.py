"""The content of a message on the wire, in and out: DATA (RFC 5321 §4.5.2) and BDAT (RFC 3030 §2).

Invariants:
  1. Only CRLF . CRLF ends DATA. Whatever else some server takes for an end stays content, and since every such
     thing has a bare CR or a bare LF in it, the whole message is refused: nothing can be smuggled behind it.
  2. Content is passed on octet for octet or not at all. That goes for NUL too: RFC 5322 §4 has it as obsolete
     syntax that must be accepted, Postfix accepts it; stripping it would break signatures unseen.
  3. How the stream is cut changes neither the content nor the verdict.
  4. Nothing goes out that another server could take for an end before the end: every line ends in CRLF.
  5. No work by line; no more than four octets are held back.
"""

from posthouse.base.errors import Reply
from posthouse.protocols.smtp.replies import BARE_NEWLINE, TOO_LARGE

_END = b"\r\n.\r\n"


class IncomingBody:
    """Takes content in as it arrives. ``limit`` is the largest message in octets, 0 for any."""

    __slots__ = ("_bare", "_held", "_imagined", "_limit", "size")

    def __init__(self, limit: int, *, dotted: bool) -> None:
        self.size = 0
        self._limit = limit
        self._bare = False
        # DATA begins as if after a CRLF: a lone dot in the first line is the end, a stuffed one loses its dot.
        self._held = b"\r\n" if dotted else b""
        self._imagined = len(self._held)

    @property
    def failure(self) -> Reply | None:
        """Why the message can't be taken, as far as is known."""
        if self._limit and self.size > self._limit:
            return TOO_LARGE
        return BARE_NEWLINE if self._bare else None

    def dotted(self, data: bytes) -> tuple[bytes, int]:
        """The content in octets of DATA, and how many of them follow the message's end; -1 while that is to come."""
        data = self._held + data
        end = data.find(_END)
        if end >= 0:
            content = data[: end + 2]
            left_over = len(data) - end - len(_END)
        else:
            kept = next((n for n in (4, 3, 2, 1) if data.endswith(_END[:n])), 0)
            content = data[: len(data) - kept]
            self._held = data[len(content) :]
            left_over = -1
        if content and self._imagined:
            content = content.replace(b"\r\n.", b"\r\n")[2:]
            self._imagined = 0
        else:
            content = content.replace(b"\r\n.", b"\r\n")
        return self._take(content), left_over

    def chunk(self, data: bytes, *, last: bool) -> bytes:
        """The content in octets of a BDAT chunk; ``last`` with the last ones of the message."""
        data = self._held + data
        self._held = b""
        if not last and data.endswith(b"\r"):
            self._held = b"\r"
            data = data[:-1]
        return self._take(data)

    def _take(self, content: bytes) -> bytes:
        """Count and judge content, in which a CR stands together with what follows it."""
        self.size += len(content)
        if not self._bare:
            pairs = content.count(b"\r\n")
            self._bare = content.count(b"\n") != pairs or content.count(b"\r") != pairs
        return b"" if self.failure else content


class OutgoingBody:
    """Makes any content fit to be sent, in bulk: lines end in CRLF, the last one too; dots are stuffed for DATA."""

    __slots__ = ("_at_line_start", "_dotted", "_held")

    def __init__(self, *, dotted: bool) -> None:
        self._dotted = dotted
        self._at_line_start = True
        self._held = b""

    def content(self, data: bytes) -> bytes:
        """The form of ``data`` on the wire, as far as it is certain."""
        if self._held:
            data = self._held + data
            self._held = b""
        if data.endswith(b"\r"):
            self._held = b"\r"
            data = data[:-1]
        return self._clean(data)

    def end(self) -> bytes:
        """What is still missing: for DATA, the end mark too."""
        rest = self._clean(b"\r\n" if self._held or not self._at_line_start else b"")
        return rest + b".\r\n" if self._dotted else rest

    def _clean(self, data: bytes) -> bytes:
        if not data:
            return data
        pairs = data.count(b"\r\n")
        if data.count(b"\n") != pairs or data.count(b"\r") != pairs:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        if self._dotted:
            first = self._at_line_start and data.startswith(b".")
            self._at_line_start = data.endswith(b"\n")
            data = data.replace(b"\r\n.", b"\r\n..")
            return b"." + data if first else data
        self._at_line_start = data.endswith(b"\n")
        return data
