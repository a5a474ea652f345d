"""LDAP messages: requests as they are sent, responses as values (RFC 4511 §4).

What follows the known parts of a message is left out, as RFC 4511 §4 wants it; whatever else is not as it should be
is a ``BerError``.
"""

from dataclasses import dataclass, field

from posthouse.protocols.ldap.ber import (
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    BerError,
    Reader,
    element,
    integer,
    octets,
)

BIND_REQUEST, BIND_RESPONSE = 0x60, 0x61
UNBIND_REQUEST = 0x42
SEARCH_REQUEST, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE = 0x63, 0x64, 0x65, 0x73
EXTENDED_REQUEST, EXTENDED_RESPONSE = 0x77, 0x78

START_TLS_OID = b"1.3.6.1.4.1.1466.20037"
"""RFC 4511 §4.14.1."""
_REFERRAL = 0xA3
_SIMPLE = 0x80
_REQUEST_NAME = 0x80
_WHOLE_SUBTREE = 2
_NEVER_DEREFERENCE = 0
_MAX_VALUES = 10_000


@dataclass(frozen=True, slots=True)
class Result:
    """How a request ended. ``code`` as in RFC 4511 appendix A; ``text`` is the server's, for an operator."""

    message_id: int
    tag: int
    code: int
    text: str = ""
    referrals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that was found: its name and the attributes that were asked for."""

    message_id: int
    dn: str
    attributes: dict[str, tuple[bytes, ...]] = field(default_factory=dict[str, tuple[bytes, ...]])


@dataclass(frozen=True, slots=True)
class Reference:
    """Other servers that the search would have to go on at."""

    message_id: int
    urls: tuple[str, ...]


def bind_request(message_id: int, dn: str, password: bytes) -> bytes:
    """A simple bind (RFC 4511 §4.2)."""
    return _message(message_id, element(BIND_REQUEST, integer(3) + octets(dn.encode()) + octets(password, _SIMPLE)))


def search_request(
    message_id: int, base: str, filter_element: bytes, attributes: tuple[str, ...], size_limit: int, seconds: int
) -> bytes:
    """A search of the whole subtree (RFC 4511 §4.5.1)."""
    content = (
        octets(base.encode())
        + integer(_WHOLE_SUBTREE, ENUMERATED)
        + integer(_NEVER_DEREFERENCE, ENUMERATED)
        + integer(size_limit, INTEGER)
        + integer(seconds, INTEGER)
        + element(BOOLEAN, b"\0")
        + filter_element
        + element(SEQUENCE, b"".join(octets(name.encode()) for name in attributes))
    )
    return _message(message_id, element(SEARCH_REQUEST, content))


def start_tls_request(message_id: int) -> bytes:
    """RFC 4511 §4.14.1."""
    return _message(message_id, element(EXTENDED_REQUEST, octets(START_TLS_OID, _REQUEST_NAME)))


def unbind_request(message_id: int) -> bytes:
    """The end of it (RFC 4511 §4.3)."""
    return _message(message_id, element(UNBIND_REQUEST, b""))


def parse_response(content: bytes) -> Result | Entry | Reference:
    """What the content of an LDAPMessage from a server says. Raises ``BerError``."""
    reader = Reader(content)
    message_id = reader.integer()
    tag = reader.tag()
    if tag == SEARCH_ENTRY:
        return _entry(message_id, reader.take(tag))
    if tag == SEARCH_REFERENCE:
        return Reference(message_id, _texts(reader.take(tag)))
    if tag in (BIND_RESPONSE, SEARCH_DONE, EXTENDED_RESPONSE):
        return _result(message_id, tag, reader.take(tag))
    raise BerError(f"message 0x{tag & 0xFF:02x}, which is no response to anything asked")


def _result(message_id: int, tag: int, reader: Reader) -> Result:
    code = reader.integer(ENUMERATED)
    reader.octets()  # matchedDN
    text = _text(reader.octets())
    referrals = _texts(reader.take(_REFERRAL)) if reader.tag() == _REFERRAL else ()
    while reader:
        reader.skip()
    return Result(message_id, tag, code, text, referrals)


def _entry(message_id: int, reader: Reader) -> Entry:
    dn = _text(reader.octets())
    attributes: dict[str, tuple[bytes, ...]] = {}
    listed = reader.take(SEQUENCE)
    while listed:
        attribute = listed.take(SEQUENCE)
        name = _text(attribute.octets()).lower()
        attributes[name] = _strings(attribute.take(SET))
    return Entry(message_id, dn, attributes)


def _texts(reader: Reader) -> tuple[str, ...]:
    return tuple(map(_text, _strings(reader)))


def _strings(reader: Reader) -> tuple[bytes, ...]:
    values: list[bytes] = []
    while reader:
        values.append(reader.octets(OCTET_STRING))
        if len(values) > _MAX_VALUES:
            raise BerError("too many values")
    return tuple(values)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BerError("text that is no UTF-8") from None


def _message(message_id: int, operation: bytes) -> bytes:
    return element(SEQUENCE, integer(message_id) + operation)
