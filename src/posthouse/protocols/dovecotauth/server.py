"""The server of Dovecot's auth protocol, version 1.2, for programs that log clients in: lines of words between tabs.

The protocol: Dovecot's documentation, "Dovecot Authentication Protocol". One connection carries many logins at
once; each may be answered at any time.

Invariants:
  1. Whatever the client sends, there is no exception: what is no part of the protocol closes the connection, and
     ``error`` says why.
  2. At most ``MAX_REQUESTS`` logins are open. One whose client owes a response makes room for the next.
  3. A login is answered once by ``accept`` or ``refuse``, or never.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from typing import ClassVar

from posthouse.protocols.dovecotauth.events import Auth, Cancel, Continue, Event
from posthouse.protocols.dovecotauth.lines import join, split
from posthouse.protocols.engine import NEED_DATA, LineBuffer, LineTooLongError, Pause

MAX_LINE = 16_384
MAX_REQUESTS = 200
_MAX_ID = 2**32
_PROPERTIES = {
    "PLAIN": ("plaintext",),
    "LOGIN": ("plaintext",),
    "CRAM-MD5": ("dictionary", "active"),
    "CRAM-SHA1": ("dictionary", "active"),
    "SCRAM-SHA-1": ("mutual-auth",),
    "SCRAM-SHA-256": ("mutual-auth",),
    "XOAUTH2": ("plaintext",),
    "OAUTHBEARER": ("plaintext",),
}
"""What a mechanism protects from and what it doesn't, in Dovecot's words: programs choose by it."""


class BrokenProtocolError(Exception):
    """The client does not keep to the protocol."""


class DovecotAuthEngine:
    """One connection. ``closed``: send what is left and close; ``error``: why, if that is the client's fault.

    ``process_id`` is this server's, ``connection_id`` is this connection's in it, ``cookie`` is 32 hex digits,
    random and new. Events need not be answered before the next is asked for.
    """

    def __init__(self, mechanisms: Sequence[str], *, process_id: int, connection_id: int, cookie: str) -> None:
        self.closed = False
        self.error = ""
        self._lines = LineBuffer(MAX_LINE)
        self._eof = False
        self._greeted = self._introduced = False
        self._requests: dict[int, bool] = {}  # oldest first; whether the client owes a response
        self._dropped: list[int] = []
        self._output: list[bytes] = []
        self._write("VERSION", "1", "2")
        for mechanism in mechanisms:
            self._write("MECH", mechanism, *_PROPERTIES.get(mechanism, ()))
        self._write("SPID", str(process_id))
        self._write("CUID", str(connection_id))
        self._write("COOKIE", cookie)
        self._write("DONE")

    # The driver's side.

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none at all is the end of them."""
        if data:
            self._lines.feed(data)
        else:
            self._eof = True

    def next_event(self) -> Event | Pause:
        """The next thing to do; never ``NEED_REPLY``."""
        while not self.closed:
            if self._dropped:
                return Cancel(self._dropped.pop())
            try:
                line = self._lines.line()
                if line is None:
                    self.closed = self._eof
                    break
                event = self._command(line)
            except LineTooLongError:
                self._break(f"a line is longer than {MAX_LINE} octets")
            except BrokenProtocolError as error:
                self._break(str(error))
            else:
                if event is not None:
                    return event
        return NEED_DATA

    def data_to_send(self) -> bytes:
        """What is to be sent; it is the driver's from now on."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def challenge(self, id: int, data: bytes) -> None:  # noqa: A002 - the protocol's word
        """The login needs another response."""
        if id in self._requests:
            self._requests[id] = True
            self._write("CONT", str(id), _encode(data))

    def accept(self, id: int, user: str) -> None:  # noqa: A002
        """The client is ``user``."""
        if self._requests.pop(id, None) is not None:
            self._write("OK", str(id), f"user={user}")

    def refuse(
        self,
        id: int,  # noqa: A002
        *,
        user: str = "",
        reason: str = "",
        code: str = "",
        temporary: bool = False,
    ) -> None:
        """The client is not who it says, or this can't be said now. ``user``: who it says it is, where that is known.

        ``reason`` may be shown to it; ``code`` is one of Dovecot's, such as ``temp_fail``.
        """
        if self._requests.pop(id, None) is not None:
            self._fail(id, user=user, reason=reason, code=code, temporary=temporary)

    # Commands.

    def _command(self, line: bytes) -> Event | None:
        # Words are octets; what is no UTF-8 comes back as it was, and no account is called that.
        name, *words = split(line.decode("utf-8", "surrogateescape"))
        if not self._greeted and name != "VERSION":
            raise BrokenProtocolError("VERSION has to come first")
        handler = self._HANDLERS.get(name)
        if handler is None:
            return None  # as Dovecot's documentation asks of both sides, for later versions
        return handler(self, words)

    def _version(self, words: list[str]) -> None:
        if self._greeted or not words or words[0] != "1":
            raise BrokenProtocolError(f"VERSION {' '.join(words)[:40]!r} where 1 is spoken")
        self._greeted = True

    def _cpid(self, words: list[str]) -> None:
        if self._introduced:
            raise BrokenProtocolError("a second CPID")
        _number(words)
        self._introduced = True

    def _auth(self, words: list[str]) -> Auth | None:
        if not self._introduced:
            raise BrokenProtocolError("AUTH before CPID")
        id = _number(words)  # noqa: A001
        if id in self._requests:
            raise BrokenProtocolError(f"AUTH {id} is there already")
        if len(words) < 2 or not words[1]:
            raise BrokenProtocolError(f"AUTH {id} without a mechanism")
        if not self._make_room():
            self._fail(id, reason="Too many logins at once", code="temp_fail", temporary=True)
            return None
        parameters, response = _parameters(words[2:])
        try:
            initial = None if response is None else _decode(response)
        except ValueError:
            self._fail(id, reason="The initial response is not base64")
            return None
        self._requests[id] = False
        secured = "secured" in parameters and parameters["secured"] != "no"
        service, remote_ip = parameters.get("service", ""), parameters.get("rip", "")
        return Auth(id, words[1].upper(), service, remote_ip, secured, initial)

    def _cont(self, words: list[str]) -> Event | None:
        id = _number(words)  # noqa: A001
        owes_response = self._requests.get(id)
        if owes_response is None:
            self._fail(id, reason="There is no such login any more")
            return None
        if not owes_response:
            raise BrokenProtocolError(f"CONT {id} without a challenge")
        self._requests[id] = False
        try:
            return Continue(id, _decode(words[1] if len(words) > 1 else ""))
        except ValueError:
            self.refuse(id, reason="The response is not base64")
            return Cancel(id)

    def _cancel(self, words: list[str]) -> Cancel:
        id = _number(words)  # noqa: A001
        self._requests.pop(id, None)
        return Cancel(id)

    _HANDLERS: ClassVar[dict[str, Callable[["DovecotAuthEngine", list[str]], Event | None]]] = {
        "VERSION": _version,
        "CPID": _cpid,
        "AUTH": _auth,
        "CONT": _cont,
        "CANCEL": _cancel,
    }

    # What they share.

    def _make_room(self) -> bool:
        """Whether another login may begin. Postfix says nothing of a client that goes away in the middle of one."""
        if len(self._requests) < MAX_REQUESTS:
            return True
        oldest = next((id for id, owes_response in self._requests.items() if owes_response), None)  # noqa: A001
        if oldest is None:
            return False
        del self._requests[oldest]
        self._dropped.append(oldest)
        return True

    def _fail(self, id: int, *, user: str = "", reason: str = "", code: str = "", temporary: bool = False) -> None:  # noqa: A002
        words = [f"user={user}"] if user else []
        if temporary:
            words.append("temp")
        if code:
            words.append(f"code={code}")
        if reason:
            words.append(f"reason={reason}")
        self._write("FAIL", str(id), *words)

    def _break(self, error: str) -> None:
        self.closed, self.error = True, error

    def _write(self, *words: str) -> None:
        self._output.append(join(words).encode("utf-8", "surrogateescape"))


def _number(words: list[str]) -> int:
    """The number that a command begins with."""
    text = words[0] if words else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < _MAX_ID):
        raise BrokenProtocolError(f"{text[:40]!r} is not a number")
    return int(text)


def _parameters(words: list[str]) -> tuple[dict[str, str], str | None]:
    """Parameters by name, and the response, which is the last word of all."""
    parameters: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "resp":
            return parameters, value
        parameters.setdefault(name, value)
    return parameters, None


def _encode(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _decode(text: str) -> bytes:
    """RFC 4648 §4; ``ValueError`` where it isn't. SMTP's word for an empty one is ``=`` (RFC 4954 §4)."""
    try:
        return b"" if text == "=" else a2b_base64(text.encode("ascii"), strict_mode=True)
    except (Base64Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
