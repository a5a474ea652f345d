"""ENVELOPE, BODY and BODYSTRUCTURE (RFC 3501 §7.4.2), from headers and scanned MIME parts.

Invariants:
  1. The result is complete and can be cached: it depends on the message alone.
  2. Every list has all the fields the grammar wants, whatever is missing or broken in the message.
"""

from collections.abc import Callable
from typing import Final

from posthouse.message import headers
from posthouse.message.addresslist import GroupEnd, GroupStart, Item, parse_addresses
from posthouse.message.mime import Part
from posthouse.message.parameters import Parameters
from posthouse.protocols.imap.render import NIL, nstring, string

_ENVELOPE_FIELDS: Final = frozenset(
    {b"date", b"subject", b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"in-reply-to", b"message-id"}
)


def envelope_bytes(header: bytes) -> bytes:
    """The ENVELOPE of the message whose header section this is. The first of several like fields counts."""
    found: dict[bytes, bytes] = {}
    for field in headers.iterate(header):
        name = field.name.lower()
        if name in _ENVELOPE_FIELDS and name not in found:
            found[name] = headers.unfold(field.value)
    value = found.get
    sender = _addresses(value(b"from"))
    return b"(%b)" % b" ".join(
        (
            nstring(value(b"date")),
            nstring(value(b"subject")),
            sender,
            # RFC 3501 §7.4.2: where these are absent or empty, From takes their place.
            _addresses(value(b"sender"), sender),
            _addresses(value(b"reply-to"), sender),
            _addresses(value(b"to")),
            _addresses(value(b"cc")),
            _addresses(value(b"bcc")),
            nstring(value(b"in-reply-to")),
            nstring(value(b"message-id")),
        )
    )


def bodystructure_bytes(part: Part, extended: bool, octets: Callable[[int, int], bytes]) -> bytes:
    """BODYSTRUCTURE of a message or part, or BODY where not ``extended``.

    ``octets(start, end)`` is a slice of what ``part`` was scanned from; asked for the headers of embedded
    messages only, for their envelopes.
    """
    if part.is_multipart:
        children = b"".join([bodystructure_bytes(child, extended, octets) for child in part.children])
        extension = b" " + _parameters(part.parameters) + _disposition_onward(part) if extended else b""
        return b"(%b %b%b)" % (children, string(part.subtype), extension)
    fields = [
        string(part.type),
        string(part.subtype),
        _parameters(part.parameters),
        nstring(part.id),
        nstring(part.description),
        string(part.encoding or b"7bit"),
        b"%d" % part.size,
    ]
    inner = part.message
    if inner is not None:
        fields.append(envelope_bytes(octets(inner.header_start, inner.body_start)))
        fields.append(bodystructure_bytes(inner, extended, octets))
    if inner is not None or part.is_text:
        fields.append(b"%d" % part.lines)
    if extended:
        fields.append(nstring(part.md5) + _disposition_onward(part))
    return b"(%b)" % b" ".join(fields)


def _disposition_onward(part: Part) -> bytes:
    """Disposition, language and location: the end of either form of BODYSTRUCTURE."""
    disposition = NIL
    if part.disposition is not None:
        disposition = b"(%b %b)" % (string(part.disposition), _parameters(part.disposition_parameters))
    language = NIL
    if part.language:
        language = b"(%b)" % b" ".join(map(string, part.language))
    return b" %b %b %b" % (disposition, language, nstring(part.location))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return NIL
    return b"(%b)" % b" ".join([b"%b %b" % (string(name), string(value)) for name, value in parameters])


def _addresses(value: bytes | None, default: bytes = NIL) -> bytes:
    items = parse_addresses(value) if value else ()
    return b"(%b)" % b"".join(map(_address, items)) if items else default


def _address(item: Item) -> bytes:
    if isinstance(item, GroupStart):
        return b"(NIL NIL %b NIL)" % string(item.name)
    if isinstance(item, GroupEnd):
        return b"(NIL NIL NIL NIL)"
    # A mailbox without a domain gets an empty one: NIL would make it the start of a group.
    return b"(%b %b %b %b)" % (nstring(item.name), nstring(item.adl), string(item.local), string(item.domain))
