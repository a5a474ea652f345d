"""A client's side of LDAP: what to send, and what came back (RFC 4511).

Invariants:
  1. Any cut of the same octets gives the same events, and no octets make it raise.
  2. It holds no more than one message of ``MAX_MESSAGE`` octets and what is fed in one go.
  3. A response to nothing that was asked breaks the session: nobody can slip in an answer before its question.
  4. An empty password is never sent: a server says yes to it, and means nobody (RFC 4513 §5.1.2).
"""

from dataclasses import dataclass

from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.ldap import messages
from posthouse.protocols.ldap.ber import SEQUENCE, BerError, header
from posthouse.protocols.ldap.filter import parse_filter
from posthouse.protocols.ldap.messages import Entry, Reference, Result

MAX_MESSAGE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: the server closed it, said why it does, or doesn't speak LDAP."""

    reason: str


LdapEvent = Result | Entry | Reference | Ended

# The responses that each request has, its last one first.
_RESPONSES: dict[int, tuple[int, ...]] = {
    messages.BIND_REQUEST: (messages.BIND_RESPONSE,),
    messages.SEARCH_REQUEST: (messages.SEARCH_DONE, messages.SEARCH_ENTRY, messages.SEARCH_REFERENCE),
    messages.EXTENDED_REQUEST: (messages.EXTENDED_RESPONSE,),
}


class LdapClient:
    """One session. Requests return their message id, which their events have too."""

    __slots__ = ("_asked", "_buffer", "_ended", "_eof", "_last_id", "_out")

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        self._buffer = bytearray()
        self._out = bytearray()
        self._last_id = 0
        self._ended = self._eof = False

    def bind(self, dn: str, password: bytes) -> int:
        """Log in. Raises ``ValueError`` for an empty password."""
        if not password:
            raise ValueError("an empty password would log in nobody, and succeed")
        return self._ask(messages.BIND_REQUEST, messages.bind_request(self._next_id(), dn, password))

    def search(
        self,
        base: str,
        filter_text: str,
        attributes: tuple[str, ...] = ("1.1",),
        size_limit: int = 0,
        seconds: int = 0,
    ) -> int:
        """Look for entries below ``base``; ``1.1`` asks for no attribute. Raises ``FilterError``. 0: no limit."""
        found = parse_filter(filter_text)
        request = messages.search_request(self._next_id(), base, found, attributes, size_limit, seconds)
        return self._ask(messages.SEARCH_REQUEST, request)

    def start_tls(self) -> int:
        """Ask for TLS; after a result with code 0, ``tls_started``."""
        return self._ask(messages.EXTENDED_REQUEST, messages.start_tls_request(self._next_id()))

    def tls_started(self) -> None:
        """From here on it is TLS. What came in clear before is nobody's word."""
        self._buffer.clear()

    def unbind(self) -> None:
        """Say goodbye; there is no answer to it."""
        self._out += messages.unbind_request(self._next_id())
        self._ended = True

    def receive(self, data: bytes) -> None:
        """Octets from the server; ``b""`` when there are no more."""
        if not data:
            self._eof = True
        elif not self._ended:
            self._buffer += data

    def next_event(self) -> LdapEvent | Pause:
        """What the octets mean. After ``Ended`` there is nothing more."""
        if self._ended:
            return NEED_DATA
        try:
            content = self._message()
            if content is None:
                return self._end("the server closed the connection") if self._eof else NEED_DATA
            return self._accept(messages.parse_response(content))
        except BerError as error:
            return self._end(f"no LDAP: {error}")

    def data_to_send(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def _message(self) -> bytes | None:
        if self._buffer and self._buffer[0] != SEQUENCE:
            raise BerError("the message is no sequence")
        found = header(self._buffer, 0, len(self._buffer))
        if found is None:
            return None
        _, start, end = found
        if end > MAX_MESSAGE:
            raise BerError(f"a message of more than {MAX_MESSAGE} octets")
        if end > len(self._buffer):
            return None
        content = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return content

    def _accept(self, response: Result | Entry | Reference) -> LdapEvent:
        if response.message_id == 0 and isinstance(response, Result):  # RFC 4511 §4.4.1
            return self._end(f"the server ends the session: code {response.code} {response.text}".rstrip())
        asked = self._asked.get(response.message_id)
        if asked is None:
            raise BerError("a message that answers nothing that was asked")
        expected = _RESPONSES[asked]
        match response:
            case Result():
                tag = response.tag
            case Entry():
                tag = messages.SEARCH_ENTRY
            case Reference():
                tag = messages.SEARCH_REFERENCE
        if tag not in expected:
            raise BerError(f"message 0x{tag:02x}, which is no answer to what was asked")
        if tag == expected[0]:
            del self._asked[response.message_id]
        return response

    def _end(self, reason: str) -> Ended:
        self._ended = True
        self._buffer.clear()
        return Ended(reason)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _ask(self, kind: int, request: bytes) -> int:
        self._asked[self._last_id] = kind
        self._out += request
        return self._last_id
